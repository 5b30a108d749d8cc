# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""From a virtual machine's specification to what an agent is asked for: a pure function.

Private to this collection; it may change without notice. Format of the XML: https://libvirt.org/formatdomain.html
"""

from __future__ import annotations

import typing as t
from xml.etree import ElementTree as ET

from . import _sizes
from ._spec import DEFAULT_FORMAT, DEFAULT_POOL, ISO_FOLDER, Spec, defines, volume_name
from .archipel_protocol.declaration import Volume, Wanted

# Every x86 machine can have it, whatever its chipset.
_CDROM_BUS = "sata"
# Options whose stated list is the whole list, and the devices that they list.
_EXACT = {"disks": "disk", "networks": "interface", "graphics": "graphics"}

ET.register_namespace("qemu", "http://libvirt.org/schemas/domain/qemu/1.0")


def wanted(spec: Spec, name: str, uuid: str, creating: bool) -> Wanted:
    """What is stated of the machine ``name`` with ``uuid``; with what a new one gets besides if ``creating``."""
    request: Wanted = {
        "uuid": uuid,
        "name": name,
        "state": spec["state"],
        "force": spec["force"],
        "shutdown_timeout": spec["shutdown_timeout"],
        "wait": spec["wait"],
        "wait_timeout": spec["wait_timeout"],
    }
    if spec["state"] == "absent":
        return request
    if spec["autostart"] is not None:
        request["autostart"] = spec["autostart"]
    if spec["tags"] is not None:
        request["tags"] = spec["tags"]
    if creating or defines(spec):
        request["domain"] = _text(_domain(spec, name, uuid, creating))
        exact = [device for option, device in _EXACT.items() if spec[option] is not None]
        if exact:
            request["exact"] = exact
        volumes = _volumes(spec, name)
        if volumes:
            request["volumes"] = volumes
    if creating:
        request["defaults"] = _text(_defaults(spec))
    return request


def _text(element: ET.Element) -> str:
    return ET.tostring(element, encoding="unicode")


def _domain(spec: Spec, name: str, uuid: str, creating: bool) -> ET.Element:
    """The partial domain: ``xml`` with the other options laid over it."""
    domain = ET.Element("domain") if spec["xml"] is None else ET.fromstring(spec["xml"])
    if spec["domain_type"] is not None:
        domain.set("type", spec["domain_type"])
    _set(domain, "name", name)
    _set(domain, "uuid", uuid)
    if spec["memory"] is not None:
        size = str(_sizes.parse(spec["memory"]) // 1024)
        for tag in ("memory", "currentMemory"):
            _set(domain, tag, size).set("unit", "KiB")
    if spec["vcpus"] is not None:
        _set(domain, "vcpu", str(spec["vcpus"]))
    for option in ("kernel", "initrd", "cmdline"):
        if spec[option] is not None:
            _set(_child(domain, "os"), option, spec[option])
    devices = [*_disks(spec, name), *_cdrom(spec, creating), *_interfaces(spec), *_graphics(spec)]
    if devices:
        _lay_over(_child(domain, "devices"), devices)
    return domain


def _defaults(spec: Spec) -> ET.Element:
    """What a new machine gets where nothing is stated and libvirt's own choice would not do."""
    domain = ET.Element("domain")
    system = ET.SubElement(domain, "os")
    ET.SubElement(system, "type").text = "hvm"
    if not spec["kernel"]:
        for option, boot in (("disks", "hd"), ("cdrom", "cdrom"), ("networks", "network")):
            if spec[option]:
                ET.SubElement(system, "boot", dev=boot)
    features = ET.SubElement(domain, "features")
    ET.SubElement(features, "acpi")  # or no guest hears of a shutdown
    ET.SubElement(features, "apic")
    ET.SubElement(domain, "clock", offset="utc")
    devices = ET.SubElement(domain, "devices")
    ET.SubElement(devices, "serial", type="pty")
    ET.SubElement(devices, "console", type="pty")
    if spec["graphics"]:
        ET.SubElement(devices, "input", type="tablet", bus="usb")  # or the pointers of guest and viewer drift apart
        ET.SubElement(ET.SubElement(devices, "video"), "model", type="vga")
    return domain


def _disks(spec: Spec, name: str) -> t.Iterator[ET.Element]:
    """The disks without their targets: the agent knows which existing one has that source, and which name is free."""
    for disk in spec["disks"] or []:
        element = ET.Element("disk", type="volume" if disk["path"] is None else "file", device="disk")
        if disk["format"] is not None:
            ET.SubElement(element, "driver", name="qemu", type=disk["format"])
        if disk["path"] is None:
            pool = disk["pool"] or DEFAULT_POOL
            ET.SubElement(element, "source", pool=pool, volume=volume_name(disk, name))
        else:
            ET.SubElement(element, "source", file=disk["path"])
        if disk["bus"] is not None:
            ET.SubElement(element, "target", bus=disk["bus"])
        yield element


def _cdrom(spec: Spec, creating: bool) -> t.Iterator[ET.Element]:
    """The CD drive; without a target it is the one that the machine has."""
    image = spec["cdrom"]
    if image is None:
        return
    element = ET.Element("disk", type="file", device="cdrom")
    if image:
        ET.SubElement(element, "source", file=image if "/" in image else f"{ISO_FOLDER}/{image}")
    if creating:
        ET.SubElement(element, "target", bus=_CDROM_BUS)
    yield element


def _interfaces(spec: Spec) -> t.Iterator[ET.Element]:
    for network in spec["networks"] or []:
        kind = "network" if network["bridge"] is None else "bridge"
        element = ET.Element("interface", type=kind)
        if network["mac"] is not None:
            ET.SubElement(element, "mac", address=network["mac"].lower())
        ET.SubElement(element, "source", {kind: network[kind]})
        ET.SubElement(element, "model", type=network["model"])
        yield element


def _graphics(spec: Spec) -> t.Iterator[ET.Element]:
    for graphic in spec["graphics"] or []:
        element = ET.Element("graphics", type=graphic["type"])
        if graphic["type"] == "spice":
            element.set("autoport", "yes")  # VNC has it where no port is given, SPICE has no port at all then
        if graphic["password"] is not None:
            element.set("passwd", graphic["password"])
        if graphic["listen"] is not None:
            element.set("listen", graphic["listen"])
            ET.SubElement(element, "listen", type="address", address=graphic["listen"])
        yield element


def _volumes(spec: Spec, name: str) -> list[Volume]:
    return [
        {
            "pool": disk["pool"] or DEFAULT_POOL,
            "name": volume_name(disk, name),
            "capacity": _sizes.parse(disk["size"]),
            "format": disk["format"] or DEFAULT_FORMAT,
        }
        for disk in spec["disks"] or []
        if disk["size"] is not None
    ]


def _child(parent: ET.Element, tag: str) -> ET.Element:
    found = parent.find(tag)
    return ET.SubElement(parent, tag) if found is None else found


def _set(parent: ET.Element, tag: str, text: str) -> ET.Element:
    element = _child(parent, tag)
    element.text = text
    return element


def _lay_over(devices: ET.Element, stated: t.Iterable[ET.Element]) -> None:
    """Puts ``stated`` into ``devices``, each over the one that it names again, if there is one."""
    for device in stated:
        other = next((other for other in devices if _same(device, other)), None)
        if other is None:
            devices.append(device)
            continue
        tags = {"source", *(child.tag for child in device)}
        device.extend([child for child in other if child.tag not in tags])
        other[:] = device
        other.attrib.update(device.attrib)


def _same(device: ET.Element, other: ET.Element) -> bool:
    """Whether two devices are meant to be one: the CD drive, a console of one type, an interface of one address."""
    if device.tag != other.tag:
        return False
    if device.tag == "graphics":
        return device.get("type") == other.get("type")
    if device.tag == "disk":
        return device.get("device") == other.get("device") == "cdrom"
    mac, other_mac = device.find("mac"), other.find("mac")
    return mac is not None and other_mac is not None and mac.get("address") == other_mac.get("address", "").lower()
