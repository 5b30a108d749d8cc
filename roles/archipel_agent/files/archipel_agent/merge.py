# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lay stated elements of a domain definition over others: what is stated counts, what is not stated stays."""

from __future__ import annotations

import copy
import re
import typing as t

from . import domain_xml
from .domain_xml import Element

# Where this attribute changes, the rest of the element belonged to the old value.
_DISCRIMINATOR = {
    "address": "type",
    "backend": "type",
    "clock": "offset",
    "listen": "type",
    "model": "type",
    "virtualport": "type",
}
# Attributes that tell repeated elements apart, the first that is there.
_NAMES = ("name", "id", "vcpu", "iothread", "cellid", "file")
_NAMING = frozenset(_NAMES)
_REPEATED_UNNAMED = frozenset(
    ("boot", "emulatorsched", "entry", "host", "initarg", "iothreadsched", "ip", "listen", "page", "route", "vcpusched")
)
# Of these the stated ones are all: the nodes of a guest's memory make sense together only.
_WHOLE = frozenset(("cell",))
# An alias of a machine type, and how its pinned versions begin; others are <alias>-<version>.
_MACHINE_FAMILIES = {"pc": "pc-i440fx", "q35": "pc-q35"}
_PINNED_MACHINE = re.compile(r"(?P<family>.+?)-(?:rhel|noble-v|jammy-v)?\d+(?:\.\d+)*(?:-[a-z0-9-]+)?\Z")


def machine_family(machine: str) -> str:
    """The kind of machine behind an alias or a pinned type: ``pc-q35`` for ``q35`` and ``pc-q35-7.2``."""
    if machine in _MACHINE_FAMILIES:
        return _MACHINE_FAMILIES[machine]
    pinned = _PINNED_MACHINE.match(machine)
    return pinned.group("family") if pinned else machine


def is_pinned(machine: str) -> bool:
    """Whether a machine type carries a version."""
    return machine not in _MACHINE_FAMILIES and _PINNED_MACHINE.match(machine) is not None


def merge_domain(base: Element, wanted: Element) -> None:
    """Lay everything but <devices/> of the domain ``wanted`` over the domain ``base``, in place."""
    _keep_machine(base, wanted)
    _release_dependents(base, wanted)
    _settle_firmware(base, wanted)
    devices = wanted.find("devices")
    if devices is not None:
        wanted = copy.deepcopy(wanted)
        wanted.remove(wanted.find("devices"))
    merge(base, wanted)
    for name in ("memory", "currentMemory"):
        size = base.find(name)
        if size is not None:
            size.text = str(domain_xml.kibibytes(size))
            size.set("unit", "KiB")
    vcpu = base.find("vcpu")
    if vcpu is not None and vcpu.get("current") == (vcpu.text or "").strip():
        del vcpu.attrib["current"]  # as libvirt itself shows it


def without_firmware(domain: Element) -> None:
    """Take away the request for no firmware: libvirt knows none, only its absence."""
    boot = domain.find("os")
    if boot is not None and boot.get("firmware") == "":
        del boot.attrib["firmware"]


def merge(base: Element, wanted: Element) -> None:
    """Lay ``wanted`` over ``base``, in place: attributes, text, and children by their tag and name.

    An empty <element/> over one that has a text clears it, as an empty string does in libvirt's own reading.
    """
    discriminator = _DISCRIMINATOR.get(base.tag)
    if discriminator and wanted.get(discriminator, base.get(discriminator)) != base.get(discriminator):
        replace_content(base, wanted)
        return
    if base.tag == "cpu" and wanted.get("mode", base.get("mode")) != base.get("mode"):
        _forget_processor(base)
    for name, value in wanted.items():
        if base.get(name) != value:
            base.set(name, value)
    if (wanted.text or "").strip():
        base.text = wanted.text
    elif not len(wanted) and not wanted.keys() and not len(base):
        base.text = None
    if not len(wanted):
        return
    if base.tag == "metadata":
        _merge_metadata(base, wanted)
        return
    for tag, group in _grouped(wanted).items():
        _merge_group(base, tag, group)


def replace_content(base: Element, wanted: Element) -> None:
    """Make ``base`` the same as ``wanted``, at its place."""
    tail = base.tail
    base.clear()
    base.text, base.tail = wanted.text, tail
    for name, value in wanted.attrib.items():
        base.set(name, value)
    base.extend(copy.deepcopy(child) for child in wanted)


def _settle_firmware(base: Element, wanted: Element) -> None:
    """Have <os firmware=''/> take away the firmware that is there, and 'efi' be true of one that is there already."""
    stated, existing = wanted.find("os"), base.find("os")
    if stated is None or stated.get("firmware") is None:
        return
    if existing is not None and stated.get("firmware") == "efi":
        if domain_xml.attribute_of(existing, "loader", "type") == "pflash":
            del stated.attrib["firmware"]
    elif existing is not None and stated.get("firmware") == "":
        existing.attrib.pop("firmware", None)
        if domain_xml.attribute_of(existing, "loader", "type", "pflash") == "pflash":
            drop(existing, "loader", "nvram", "firmware")
    without_firmware(wanted)


def drop(element: Element, *tags: str) -> None:
    """Remove the children with these tags."""
    for child in list(element.iterchildren(*tags)):
        element.remove(child)


def _forget_processor(cpu: Element) -> None:
    """Drop what describes a processor of another mode; its topology is the machine's (formatdomain.html#cpu)."""
    cpu.attrib.clear()
    for child in list(cpu):
        if child.tag not in ("topology", "numa"):
            cpu.remove(child)


def _grouped(element: Element) -> dict[str, list[Element]]:
    groups: dict[str, list[Element]] = {}
    for child in element:
        groups.setdefault(child.tag, []).append(child)
    return groups


def _merge_group(base: Element, tag: str, group: list[Element]) -> None:
    olds = list(base.iterchildren(tag))
    stated = group[0].keys()
    name = None
    if not _NAMING.isdisjoint(stated):
        name = next((name for name in _NAMES if name in stated and _names(group, name)), None)
    if name is None and len(group) == len(olds) == 1 and tag not in _REPEATED_UNNAMED and tag not in _WHOLE:
        merge(olds[0], group[0])
        return
    if tag in _REPEATED_UNNAMED or (name is None and len(group) > 1):
        for old in olds:
            base.remove(old)
        base.extend(copy.deepcopy(child) for child in group)
        return
    if tag in _WHOLE:
        named = {child.get(name) for child in group}
        for old in [old for old in olds if old.get(name) not in named]:
            base.remove(old)
    for child in group:
        old: t.Any = next((old for old in olds if name is None or old.get(name) == child.get(name)), None)
        if old is None:
            base.append(copy.deepcopy(child))
        else:
            merge(old, child)


def _names(group: list[Element], attribute: str) -> bool:
    values = [child.get(attribute) for child in group]
    return None not in values and len(set(values)) == len(values)


def _merge_metadata(base: Element, wanted: Element) -> None:
    """Applications own whole elements of <metadata/> (formatdomain.html#general-metadata), which keep their places."""
    for child in wanted:
        there = base.find(child.tag)
        if there is None:
            base.append(copy.deepcopy(child))
        else:
            base.replace(there, copy.deepcopy(child))


def _keep_machine(base: Element, wanted: Element) -> None:
    """A stated alias is satisfied by any version of its machine: never move a guest to a newer one by accident."""
    stated, pinned = wanted.find("os/type"), domain_xml.attribute_of(base, "os/type", "machine")
    if stated is None or not stated.get("machine") or not pinned:
        return
    if not is_pinned(stated.get("machine")) and machine_family(stated.get("machine")) == machine_family(pinned):
        stated.set("machine", pinned)


def _release_dependents(base: Element, wanted: Element) -> None:
    """Drop from ``base`` what libvirt derived from a value that ``wanted`` now states differently."""
    memory, current = base.find("memory"), base.find("currentMemory")
    stated = wanted.find("memory")
    if None not in (memory, current, stated) and wanted.find("currentMemory") is None:
        old, new, balloon = (domain_xml.kibibytes(size) for size in (memory, stated, current))
        if old != new and (balloon == old or balloon > new):
            base.remove(current)
    vcpu, count = base.find("vcpu"), domain_xml.text_of(wanted, "vcpu")
    if vcpu is not None and count.isdigit() and count != (vcpu.text or "").strip():
        drop(base, "vcpus")
        if int(vcpu.get("current", "0")) > int(count):
            del vcpu.attrib["current"]
    nodes = base.find("numatune/memory")
    if nodes is not None and domain_xml.attribute_of(wanted, "numatune/memory", "nodeset"):
        # With "auto", libvirt drops the nodes.
        nodes.attrib.pop("placement", None)
    # The two ways to state a boot order exclude each other (formatdomain.html#bios-bootloader).
    if wanted.find("devices/*/boot") is not None and wanted.find("os/boot") is None and base.find("os") is not None:
        drop(base.find("os"), "boot")
    if wanted.find("os/boot") is not None:
        for device in domain_xml.devices_of(base):
            drop(device, "boot")
