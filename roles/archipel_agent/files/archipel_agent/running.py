# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a running machine has, in a form that compares with its definition. Pure; no libvirt.

libvirt adds to a running domain what it chose at its start: aliases, names of network devices, ports, labels. None of
it is a difference to the definition.
"""

from __future__ import annotations

import copy

from . import domain_xml
from .domain_xml import Element, attribute_of
from .merge import drop

# Devices of the host that libvirt named itself.
_CHOSEN_NETWORK_DEVICES = ("vnet", "macvtap", "macvlan")
_CHOSEN_PATHS = ("/var/lib/libvirt/qemu/channel/", "/run/libvirt/qemu/channel/", "/dev/pts/")
# What libvirt changes in a running machine without a restart, or of which the running machine has no part.
_NOT_THE_GUESTS = ("name", "title", "description", "metadata", "seclabel", "resource", "vcpus")


def comparable(live: Element, definition: Element, processor: Element | None) -> Element:
    """The definition of the running machine ``live`` (SECURE), without what its start added to ``definition``.

    ``processor`` is its <cpu/> as it was stated when it started.
    """
    domain = copy.deepcopy(live)
    domain.attrib.pop("id", None)
    for element in list(domain.iter("alias", "seclabel", "privateData")):
        element.getparent().remove(element)
    _take_over(domain, definition, *_NOT_THE_GUESTS)
    _take_over_processor(domain, definition, processor)
    _take_over_firmware(domain, definition)
    devices = _devices(domain)
    for device in devices:
        _strip(device)
    keyed = list(zip(domain_xml.device_keys(devices), devices))
    stated = dict(zip(domain_xml.device_keys(_devices(definition)), _devices(definition)))
    for key, device in keyed:
        same = stated.get(key)
        if same is not None:
            _settle(device, same)
    tags = {part.tag: place for place, part in enumerate(definition)}
    domain[:] = sorted(domain, key=lambda part: tags.get(part.tag, len(tags)))
    # The order of a device among its kind means nothing, nor that of the parts of a machine.
    places = {key: place for place, key in enumerate(stated)}
    keyed.sort(key=lambda pair: places.get(pair[0], len(places)))
    if keyed:
        domain.find("devices")[:] = [device for dummy, device in keyed]
    return domain


def _devices(domain: Element) -> list[Element]:
    return domain_xml.devices_of(domain)


def _take_over(domain: Element, definition: Element, *tags: str) -> None:
    """Make the children with these tags those of the definition."""
    drop(domain, *tags)
    for tag in tags:
        domain.extend(copy.deepcopy(child) for child in definition.findall(tag))


def _take_over_processor(domain: Element, definition: Element, processor: Element | None) -> None:
    """A running machine tells the model that it got, not the one that it asked for."""
    own = definition.find("cpu")
    if processor is None or own is None or processor.get("mode") != own.get("mode"):
        if own is None:
            drop(domain, "cpu")
        return
    drop(domain, "cpu")
    domain.append(copy.deepcopy(processor))
    for old, new in zip(domain.findall("cpu/model"), own.findall("model")):
        old.attrib.pop("fallback", None)
        old.attrib.update({"fallback": new.get("fallback")} if new.get("fallback") else {})


def _take_over_firmware(domain: Element, definition: Element) -> None:
    """Where libvirt chooses the firmware, the running machine tells which one it chose."""
    boot, stated = domain.find("os"), definition.find("os")
    if None in (boot, stated) or not stated.get("firmware") or stated.find("loader") is not None:
        return
    boot.set("firmware", stated.get("firmware"))
    _take_over(boot, stated, "loader", "nvram", "firmware")
    features = domain.find("features")
    if features is not None and definition.find("features/smm") is None:
        drop(features, "smm")


def _strip(device: Element) -> None:
    """Take away what only running devices have."""
    drop(device, "backingStore", "mirror", "privateData")
    for source in device.findall("source"):
        for name in ("index", "portid", "startupPolicy"):
            source.attrib.pop(name, None)
        drop(source, "privateData")
        if device.tag == "disk" and not len(source) and not source.attrib:
            device.remove(source)  # of an empty drive
    if device.tag == "interface":
        if attribute_of(device, "target", "dev").startswith(_CHOSEN_NETWORK_DEVICES):
            drop(device, "target")
        if device.get("type") == "network":
            source = device.find("source")
            for name in ("bridge", "dev", "mode"):
                source.attrib.pop(name, None)
    if device.tag in ("serial", "console", "channel", "parallel"):
        device.attrib.pop("tty", None)
        for source in device.findall("source"):
            if source.get("path", "").startswith(_CHOSEN_PATHS):
                device.remove(source)
        for target in device.findall("target"):
            target.attrib.pop("state", None)
    if device.tag == "graphics" and device.get("autoport") == "yes":
        for name in ("port", "tlsPort", "websocketGenerated"):
            device.attrib.pop(name, None)


def _settle(device: Element, stated: Element) -> None:
    """Make equal what the definition leaves to the start."""
    if device.tag == "graphics" and stated.get("listen") is None:
        device.attrib.pop("listen", None)
        for old, new in zip(device.findall("listen"), stated.findall("listen")):
            if new.get("address") is None:
                old.attrib.pop("address", None)
    if device.tag == "graphics" and stated.get("autoport") == "yes":
        for name in ("port", "tlsPort", "websocket"):
            if stated.get(name) is not None:
                device.set(name, stated.get(name))
    if device.tag == "channel" and stated.find("source") is not None and device.find("source") is None:
        device.insert(0, copy.deepcopy(stated.find("source")))
    if device.tag == "disk":
        # Opened and closed by the guest, and by libvirt while it changes a medium.
        for old, kept in zip(device.findall("target"), stated.findall("target")):
            old.attrib.pop("tray", None)
            old.attrib.update({"tray": kept.get("tray")} if kept.get("tray") else {})
    if device.tag == "disk" and stated.find("source") is None and device.find("source") is None:
        # An empty drive has no format; what is left of one does not survive a migration.
        drop(device, "driver")
        device[:0] = [copy.deepcopy(driver) for driver in stated.findall("driver")]
    if device.tag == "disk" and stated.find("source") is not None and device.find("source") is not None:
        policy = stated.find("source").get("startupPolicy")
        if policy is not None:
            device.find("source").set("startupPolicy", policy)


def with_words_of(domain: Element, definition: Element) -> Element:
    """``domain`` with the words for people and applications of ``definition``, which no guest sees."""
    same = copy.deepcopy(domain)
    _take_over(same, definition, "title", "description", "metadata")
    return same
