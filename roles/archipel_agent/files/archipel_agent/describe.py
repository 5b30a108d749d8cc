# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""A definition in the terms of archipel_vm's options, and the difference of two; never with a secret."""

from __future__ import annotations

import re
import typing as t

from . import domain_xml, metadata
from .domain_xml import SECRET_CHANGED, SECRET_SET, Element, attribute_of, text_of

Terms = t.Dict[str, t.Any]

# Changed paths that a term tells of. A term that did not change covers nothing.
_COVERED = (
    ("name", r"name"),
    ("domain_type", r"@type"),
    ("memory", r"memory(/@unit)?"),
    ("vcpus", r"vcpu"),
    ("kernel", r"os/kernel"),
    ("initrd", r"os/initrd"),
    ("cmdline", r"os/cmdline"),
    ("disks", r"devices/disk\[[^/]*\](/@type|/source(/.*)?|/driver/@type|/target/@bus)?"),
    ("cdrom", r"devices/disk\[[^/]*\](/@type|/source(/.*)?)?"),
    ("networks", r"devices/interface\[[^/]*\](/@type|/source(/.*)?|/model(/.*)?)?"),
    ("tags", r"metadata/tags(/.*)?"),
    ("graphics", r"devices/graphics\[[^/]*\](/@listen|/@passwd|/listen(/.*)?)?"),
)
_UNITS = (("TiB", 30), ("GiB", 20), ("MiB", 10), ("KiB", 0))


def size(kibibytes: int) -> str:
    """A size in the largest unit that tells it exactly: ``128MiB``."""
    for unit, power in _UNITS:
        if kibibytes and kibibytes % (1 << power) == 0:
            return f"{kibibytes >> power}{unit}"
    return "0KiB"


def definition(domain: Element) -> Terms:
    """The terms of a definition; what it does not have is left out. An empty drive is an empty ``cdrom``."""
    memory, drives = domain.find("memory"), [disk for disk in domain.findall("devices/disk") if _is_drive(disk)]
    terms: Terms = {
        "name": text_of(domain, "name"),
        "domain_type": domain.get("type"),
        "memory": None if memory is None else size(domain_xml.kibibytes(memory)),
        "vcpus": int(text_of(domain, "vcpu", "1")),
        "kernel": text_of(domain, "os/kernel") or None,
        "initrd": text_of(domain, "os/initrd") or None,
        "cmdline": text_of(domain, "os/cmdline") or None,
        "disks": [_disk(disk) for disk in domain.findall("devices/disk") if not _is_drive(disk)],
        "cdrom": _place(drives[0]) if drives else None,
        "networks": [_network(interface) for interface in domain.findall("devices/interface")],
        "graphics": [_graphics(graphics) for graphics in domain.findall("devices/graphics")],
        "tags": metadata.tags_of(domain),
    }
    return {term: value for term, value in terms.items() if value not in (None, [])}


def difference(before: Element, after: Element) -> tuple[Terms, Terms]:
    """What differs, before and after, by term.

    What no term tells of is under ``xml``, a list of ``path: value``.
    """
    old, new = definition(before), definition(after)
    _mark_changed_passwords(before, after, new.get("graphics", []))
    differing = {term for term in {**old, **new} if old.get(term) != new.get(term)}
    olds = {term: old[term] for term in sorted(differing) if term in old}
    news = {term: new[term] for term in sorted(differing) if term in new}
    rest = [change for change in domain_xml.changes(before, after) if not _is_covered(change.path, differing, after)]
    if rest:
        olds["xml"] = [f"{change.path}: {change.before}" for change in rest if change.before is not None]
        news["xml"] = [f"{change.path}: {change.after}" for change in rest if change.after is not None]
    return olds, news


def _is_covered(path: str, differing: set[str], after: Element) -> bool:
    if path.startswith("currentMemory") and "memory" in differing:
        # It follows the memory unless a balloon is set apart.
        return text_of(after, "currentMemory") == text_of(after, "memory")
    return any(term in differing and re.fullmatch(pattern, path) for term, pattern in _COVERED)


def _is_drive(disk: Element) -> bool:
    return disk.get("device") in ("cdrom", "floppy")


def _disk(disk: Element) -> Terms:
    source = disk.find("source")
    terms: Terms = {"target": attribute_of(disk, "target", "dev"), "bus": attribute_of(disk, "target", "bus")}
    if disk.get("type") == "volume":
        terms["pool"] = attribute_of(disk, "source", "pool")
        terms["volume"] = attribute_of(disk, "source", "volume")
    elif source is not None:
        terms["path"] = _place(disk)
    terms["format"] = attribute_of(disk, "driver", "type")
    return {term: value for term, value in terms.items() if value}


def _place(disk: Element) -> str:
    """Where a disk's content is: a path, or what comes nearest to one."""
    source = disk.find("source")
    if source is None:
        return ""
    if disk.get("type") == "volume":
        return f"{source.get('pool')}/{source.get('volume')}"
    if disk.get("type") == "network":
        return f"{source.get('protocol')}:{source.get('name', '')}"
    return next((source.get(name) for name in ("file", "dev", "dir") if source.get(name)), "")


def _network(interface: Element) -> Terms:
    kind = interface.get("type", "")
    terms: Terms = {
        "mac": attribute_of(interface, "mac", "address"),
        "model": attribute_of(interface, "model", "type"),
    }
    if kind in ("network", "bridge"):
        terms[kind] = attribute_of(interface, "source", kind)
    else:
        terms["type"] = kind
    return {term: value for term, value in terms.items() if value}


def _graphics(graphics: Element) -> Terms:
    listen = graphics.get("listen") or attribute_of(graphics, "listen", "address")
    terms = {
        "type": graphics.get("type"),
        "listen": listen,
        "password": SECRET_SET if graphics.get("passwd") else "",
    }
    return {term: value for term, value in terms.items() if value}


def _mark_changed_passwords(before: Element, after: Element, terms: list[Terms]) -> None:
    olds = {graphics.get("type"): graphics.get("passwd") for graphics in before.findall("devices/graphics")}
    for graphics, shown in zip(after.findall("devices/graphics"), terms):
        old, new = olds.get(graphics.get("type")), graphics.get("passwd")
        if old and new and old != new:
            shown["password"] = SECRET_CHANGED
