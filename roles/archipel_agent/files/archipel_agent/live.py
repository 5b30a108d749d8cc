# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which changes a running machine can take without a restart. Pure; live_changes.py does them."""

from __future__ import annotations

import copy
import typing as t

from . import domain_xml
from .domain_xml import Element, attribute_of

# Devices that come and go while the guest runs (https://libvirt.org/html/libvirt-libvirt-domain.html).
_PLUGGABLE = frozenset(("disk", "interface", "hostdev", "rng"))
_PLUGGABLE_BUSES = frozenset(("virtio", "scsi", "usb"))
_INTERFACE_UPDATES = ("link", "bandwidth", "filterref", "source")
_LIMITS = [f"{way}_{unit}_sec" for unit in ("bytes", "iops") for way in ("total", "read", "write")]


class Change(t.NamedTuple):
    """One thing to do to a running machine: a function of live_changes.py and its arguments."""

    function: str
    label: str
    arguments: tuple[t.Any, ...]


def changes(running: Element, target: Element, allowed: t.Callable[[str], bool]) -> tuple[list[Change], Element]:
    """(what can be done to ``running`` on the way to ``target``, what it has then).

    ``allowed(path)`` tells whether a part may be touched at all, such as ``devices/disk[vda]`` or ``memory``.
    """
    after = copy.deepcopy(running)
    found = [*_sizes(after, target, allowed)]
    if domain_xml.equal_devices(running, target):
        return found, after
    news = _keyed(target)
    for label, device in _keyed(running).items():
        if label not in news and allowed(label) and _can_come(device):
            found.append(Change("detach", f"detach {_name(label)}", (domain_xml.serialise(device),)))
            _remove(after, label)
    olds = _keyed(after)
    for label, device in news.items():
        if not allowed(label):
            continue
        if label in olds:
            found += _updates(olds[label], device, label)
        elif _can_come(device):
            found += _arrival(after, target, device, label)
    return found, after


def labels_of(domain: Element, classes: t.Collection[str]) -> set[str]:
    """The devices of these classes; a drive of removable media is none of the class disk."""
    if not classes:
        return set()
    return {
        label
        for label, device in _keyed(domain).items()
        if device.tag in classes and device.get("device") not in ("cdrom", "floppy")
    }


def texts(before: Element, after: Element) -> list[Change]:
    """What people and applications keep in a definition, and a running machine shows, too."""
    found = []
    for tag in ("title", "description"):
        text = domain_xml.text_of(after, tag)
        if text != domain_xml.text_of(before, tag):
            found.append(Change("set_text", f"set {tag}", (tag, text)))
    return found


def _sizes(after: Element, target: Element, allowed: t.Callable[[str], bool]) -> t.Iterator[Change]:
    current, wanted = after.find("currentMemory"), target.find("currentMemory")
    if current is not None and wanted is not None and current.text != wanted.text:
        same = domain_xml.text_of(after, "memory") == domain_xml.text_of(target, "memory")
        if same and allowed("currentMemory") and target.find("devices/memballoon[@model='none']") is None:
            yield Change("set_memory", "set the memory", (domain_xml.kibibytes(wanted),))
        if same:
            # A guest need not follow its balloon; how far it did is not a matter of restarts.
            current.text = wanted.text
    old, new = after.find("vcpu"), target.find("vcpu")
    if old is None or new is None or old.text != new.text or not allowed("vcpu"):
        return
    if old.get("current") != new.get("current"):
        yield Change("set_vcpus", "set the processors", (int(new.get("current") or new.text),))
        old.attrib.pop("current", None)
        old.attrib.update({"current": new.get("current")} if new.get("current") else {})


def _updates(old: Element, new: Element, label: str) -> list[Change]:
    """What can be changed of a device that stays; ``old`` becomes ``new`` where all of it can."""
    paths = {change.path for change in domain_xml.changes(old, new)}
    parts = {path.split("/")[0] for path in paths}
    if not paths:
        return []
    change = None
    if new.tag == "disk" and new.get("device") in ("cdrom", "floppy"):
        if parts <= {"@type", "source"}:
            target = attribute_of(new, "target", "dev")
            change = Change("change_media", f"change medium in {target}", (target, domain_xml.serialise(new)))
    elif new.tag == "disk" and parts <= {"iotune"}:
        limits = {limit.tag: int(limit.text or 0) for limit in new.findall("iotune/*") if limit.tag in _LIMITS}
        target = attribute_of(new, "target", "dev")
        change = Change("limit_disk", f"limit {_name(label)}", (target, {**dict.fromkeys(_LIMITS, 0), **limits}))
    elif new.tag == "interface" and parts <= {"@type", *_INTERFACE_UPDATES} and old.get("type") == new.get("type"):
        change = Change("update", f"update {_name(label)}", (domain_xml.serialise(new),))
    elif new.tag == "graphics" and paths <= {"@passwd"}:
        change = Change("set_password", f"set the password of {_name(label)}", (new.get("type"), new.get("passwd")))
    if change is None:
        return []
    old.getparent().replace(old, copy.deepcopy(new))
    return [change]


def _arrival(after: Element, target: Element, device: Element, label: str) -> t.Iterator[Change]:
    """Plug ``device`` in, and before it the controller that it needs; nothing where there is no place for it."""
    address = device.find("address")
    needed = [device]
    if address is not None and address.get("type") == "drive":
        controller = _controller(target, attribute_of(device, "target", "bus"), address.get("controller"))
        if controller is None:
            return
        if _controller(after, controller.get("type"), controller.get("index")) is None:
            needed.insert(0, controller)
    if not all(_has_place(after, one) for one in needed):
        return
    for one in needed:
        name = label if one is device else domain_xml.key_label(domain_xml.device_keys([one])[0])
        yield Change("attach", f"attach {_name(name)}", (domain_xml.serialise(one),))
        after.find("devices").append(copy.deepcopy(one))


def _has_place(domain: Element, device: Element) -> bool:
    """Whether the bus of a device's address is there; a PCIe port cannot be plugged in (pci-hotplug.html)."""
    address = device.find("address")
    if address is None or address.get("type") != "pci":
        return True
    bus = int(address.get("bus", "0"), 16)
    return _controller(domain, "pci", str(bus)) is not None


def _controller(domain: Element, kind: str | None, index: str | None) -> t.Any:
    return next(
        (one for one in domain.findall("devices/controller") if (one.get("type"), one.get("index")) == (kind, index)),
        None,
    )


def _can_come(device: Element) -> bool:
    if device.tag == "disk":
        pluggable = attribute_of(device, "target", "bus") in _PLUGGABLE_BUSES
        return pluggable and device.get("device", "disk") in ("disk", "lun")
    return device.tag in _PLUGGABLE


def _keyed(domain: Element) -> dict[str, Element]:
    devices = domain_xml.devices_of(domain)
    return {f"devices/{domain_xml.key_label(key)}": one for key, one in zip(domain_xml.device_keys(devices), devices)}


def _remove(domain: Element, label: str) -> None:
    device = _keyed(domain)[label]
    device.getparent().remove(device)


def _name(label: str) -> str:
    return label.rpartition("devices/")[2]
