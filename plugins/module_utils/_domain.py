# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""From a virtual machine's specification to what an agent is asked for: a pure function.

Private to this collection; it may change without notice. Format of the XML: https://libvirt.org/formatdomain.html
"""

from __future__ import annotations

import typing as t
from xml.etree import ElementTree as ET

from . import _vm_cloud_init, _vm_devices, _vm_network, _vm_storage, _vm_system, _xml
from ._spec import Spec, defines, waits
from .archipel_protocol.declaration import Wanted

# Options that say all that is to be there of a class of devices.
_EXACT = {
    "disks": "disk",
    "networks": "interface",
    "graphics": "graphics",
    "video": "video",
    "serials": "serial",
    "channels": "channel",
    "watchdog": "watchdog",
    "rng": "rng",
    "tpm": "tpm",
    "filesystems": "filesystem",
    "host_devices": "hostdev",
}

ET.register_namespace("qemu", "http://libvirt.org/schemas/domain/qemu/1.0")


def wanted(spec: Spec, name: str, uuid: str, creating: bool) -> Wanted:
    """What is stated of the machine ``name`` with ``uuid``; with what a new one gets besides if ``creating``."""
    request: Wanted = {
        "uuid": uuid,
        "name": name,
        "state": spec["state"],
        "apply": spec["apply"],
        "allow_restart": spec["allow_restart"],
        "force": spec["force"],
        "shutdown_timeout": spec["shutdown_timeout"],
        "wait": spec["wait"],
        "wait_timeout": spec["wait_timeout"],
    }
    if waits(spec):
        request["wait_for"], request["start_delay"] = spec["wait_for"], spec["start_delay"]
    if spec["protected"] is not None:
        request["protected"] = spec["protected"]
    if spec["state"] == "absent":
        request["remove_disks"] = spec["remove_disks"]
        if spec["assume_lost"]:
            request["assume_lost"] = spec["assume_lost"]
        return request
    if spec["autostart"] is not None:
        request["autostart"] = spec["autostart"]
    if spec["tags"] is not None:
        request["tags"] = spec["tags"]
    if creating or defines(spec):
        request["domain"] = _xml.text(_domain(spec, name, uuid, creating))
        exact = [device for option, device in _EXACT.items() if spec[option] is not None]
        if exact:
            request["exact"] = exact
        volumes = _vm_storage.volumes(spec, name)
        if volumes:
            request["volumes"] = volumes
        cloud_init = _vm_cloud_init.wanted(spec, name, uuid)
        if cloud_init is not None:
            request["cloud_init"] = cloud_init
    if creating:
        request["defaults"] = _xml.text(_defaults(spec))
        if spec["assume_lost"]:
            request["assume_lost"] = spec["assume_lost"]
    return request


def _domain(spec: Spec, name: str, uuid: str, creating: bool) -> ET.Element:
    """The partial domain: ``xml`` with the other options laid over it."""
    domain = ET.Element("domain") if spec["xml"] is None else ET.fromstring(spec["xml"])
    _xml.put(domain, "name", name)
    _xml.put(domain, "uuid", uuid)
    _vm_system.lay(domain, spec, creating)
    devices = [*_vm_storage.devices(spec, name, creating), *_vm_network.devices(spec), *_vm_devices.devices(spec)]
    if devices:
        _lay_over(_xml.child(domain, "devices"), devices)
    return domain


def _defaults(spec: Spec) -> ET.Element:
    """What a new machine gets where nothing is stated and libvirt's own choice would not do."""
    domain = ET.Element("domain")
    system = ET.SubElement(domain, "os")
    ET.SubElement(system, "type").text = "exe" if spec["domain_type"] == "lxc" else "hvm"
    if not spec["kernel"] and spec["boot"] is None:
        for option, boot in (("disks", "hd"), ("cdrom", "cdrom"), ("networks", "network")):
            if spec[option]:
                ET.SubElement(system, "boot", dev=boot)
    features = ET.SubElement(domain, "features")
    ET.SubElement(features, "acpi")  # or no guest hears of a shutdown
    ET.SubElement(features, "apic")
    ET.SubElement(domain, "clock", offset="utc")
    devices = ET.SubElement(domain, "devices")
    if spec["serials"] is None:
        ET.SubElement(devices, "serial", type="pty")
        ET.SubElement(devices, "console", type="pty")
    if spec["graphics"]:
        ET.SubElement(devices, "input", type="tablet", bus="usb")  # or the pointers of guest and viewer drift apart
        if spec["video"] is None:
            ET.SubElement(ET.SubElement(devices, "video"), "model", type="vga")
    return domain


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
    """Whether two devices are meant to be one: by what tells devices of their class apart."""
    if device.tag != other.tag:
        return False
    if device.tag in ("video", "watchdog", "rng", "tpm"):
        return True
    if device.tag == "graphics":
        return device.get("type") == other.get("type")
    if device.tag == "disk" and device.get("device") == "cdrom":
        return other.get("device") == "cdrom"
    path, name = _NAMED_BY.get(device.tag, ("target", "dev"))
    own, its = _attribute(device, path, name), _attribute(other, path, name)
    return bool(own) and own == its


_NAMED_BY = {"interface": ("mac", "address"), "channel": ("target", "name"), "filesystem": ("target", "dir")}


def _attribute(device: ET.Element, path: str, name: str) -> str:
    found = device.find(path)
    return "" if found is None else found.get(name, "").lower()
