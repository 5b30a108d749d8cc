# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""A definition in the terms of archipel_vm's options, and the difference of two; never with a secret."""

from __future__ import annotations

import difflib
import re
import typing as t

from . import describe_devices, domain_xml, metadata
from .domain_xml import SECRET_CHANGED, Element, attribute_of, text_of

Terms = t.Dict[str, t.Any]

_DEVICE = r"devices/%s\[[^/]*\]"
# Changed paths that a term tells of. A term that did not change covers nothing.
_COVERED = (
    *((term, term) for term in ("name", "title", "description", "on_poweroff", "on_reboot", "on_crash")),
    ("domain_type", r"@type"),
    ("memory", r"(memory|currentMemory)(/@unit)?"),
    ("max_memory", r"memory"),
    ("vcpus", r"vcpu(/@current)?"),
    ("max_vcpus", r"vcpu(/@current)?"),
    ("machine", r"os/type/@machine"),
    ("arch", r"os/type/@arch"),
    ("firmware", r"os/(@firmware|loader.*|nvram.*|firmware.*)"),
    ("boot", r"os/boot(\[.*)?(/@dev)?"),
    ("kernel", r"os/kernel"),
    ("initrd", r"os/initrd"),
    ("cmdline", r"os/cmdline"),
    ("cpu", r"cpu(/@(mode|match)|/model(/.*)?|/topology(/.*)?)?"),
    ("numa", r"cpu/numa(/cell.*)?"),
    ("clock", r"clock/@(offset|timezone)"),
    ("tags", r"metadata/tags(/.*)?"),
    ("disks", _DEVICE % "disk" + r"(/@type|/source(/.*)?|/driver/@(type|cache|io|discard)|/target/@bus|/serial)?"),
    ("disks", _DEVICE % "disk" + r"/iotune(/.*)?"),
    ("cdrom", _DEVICE % "disk" + r"(/@type|/source(/.*)?)?"),
    ("cloud_init", _DEVICE % "disk" + r"(/source(/.*)?)?"),
    ("networks", _DEVICE % "interface" + r"(/@type|/source(/.*)?|/model(/.*)?|/link(/.*)?|/filterref(/.*)?)?"),
    ("networks", _DEVICE % "interface" + r"/bandwidth(/.*)?"),
    ("graphics", _DEVICE % "graphics" + r"(/@listen|/@passwd|/@port|/@autoport|/listen(/.*)?)?"),
    ("video", _DEVICE % "video" + r"(/model.*)?"),
    ("serials", _DEVICE % "(serial|console)" + r"(/@type|/source.*|/protocol.*)?"),
    ("channels", _DEVICE % "channel" + r"(/@type)?"),
    ("watchdog", _DEVICE % "watchdog" + r"(/@model|/@action)?"),
    ("rng", _DEVICE % "rng" + r"(/backend.*|/rate.*)?"),
    ("tpm", _DEVICE % "tpm" + r"(/@model|/backend.*)?"),
    ("filesystems", _DEVICE % "filesystem" + r"(/driver.*|/source.*)?"),
    ("host_devices", _DEVICE % "hostdev"),
)
_TEXTS = (
    *((term, term) for term in ("title", "description", "on_poweroff", "on_reboot", "on_crash")),
    *((term, f"os/{term}") for term in ("kernel", "initrd", "cmdline")),
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
    return _terms(domain, True)


def _terms(domain: Element, with_devices: bool) -> Terms:
    terms = {**_machine(domain), **(describe_devices.terms(domain) if with_devices else {})}
    nothing = (None, "", [], {})
    return {term: value for term, value in terms.items() if value not in nothing or (term, value) == ("cdrom", "")}


def _machine(domain: Element) -> Terms:
    memory, current = (_kibibytes(domain, tag) for tag in ("memory", "currentMemory"))
    vcpus = int(text_of(domain, "vcpu", "1"))
    terms: Terms = {
        "name": text_of(domain, "name"),
        "domain_type": domain.get("type"),
        "memory": size(current or memory) if memory else None,
        "max_memory": size(memory) if current and current != memory else None,
        "vcpus": int(attribute_of(domain, "vcpu", "current") or vcpus),
        "max_vcpus": vcpus if attribute_of(domain, "vcpu", "current") else None,
        "arch": attribute_of(domain, "os/type", "arch"),
        "machine": attribute_of(domain, "os/type", "machine"),
        "firmware": "efi" if _has_efi(domain) else None,
        "boot": [boot.get("dev") for boot in domain.findall("os/boot")],
        "cpu": _processor(domain),
        "numa": [_cell(cell) for cell in domain.findall("cpu/numa/cell")],
        "clock": _clock(domain),
        "tags": metadata.tags_of(domain),
        "protected": metadata.is_protected(domain) or None,
    }
    for term, path in _TEXTS:
        terms[term] = text_of(domain, path)
    terms["description"] = domain_xml.without_password(terms["description"])
    return terms


def _kibibytes(domain: Element, tag: str) -> int:
    found = domain.find(tag)
    return 0 if found is None else domain_xml.kibibytes(found)


def _has_efi(domain: Element) -> bool:
    boot = domain.find("os")
    return boot is not None and (boot.get("firmware") == "efi" or attribute_of(boot, "loader", "type") == "pflash")


def _processor(domain: Element) -> Terms:
    topology = domain.find("cpu/topology")
    terms: Terms = {"mode": attribute_of(domain, "cpu", "mode"), "model": text_of(domain, "cpu/model")}
    for part in () if topology is None else ("sockets", "cores", "threads"):
        terms[part] = int(topology.get(part, "1"))
    return {term: value for term, value in terms.items() if value}


def _cell(cell: Element) -> Terms:
    kibibytes = int(cell.get("memory", "0")) if cell.get("unit", "KiB") == "KiB" else 0
    return {"cpus": cell.get("cpus"), "memory": size(kibibytes)}


def _clock(domain: Element) -> Terms:
    clock = domain.find("clock")
    return {} if clock is None else {name: clock.get(name) for name in ("offset", "timezone") if clock.get(name)}


def difference(
    before: Element, after: Element, found: t.Iterable[domain_xml.Change] | None = None
) -> tuple[Terms, Terms]:
    """What differs, before and after, by term.

    What no term tells of is under ``xml``, a list of ``path: value``. ``found`` are their domain_xml.changes(), where
    they are known.
    """
    same = domain_xml.equal_devices(before, after)
    old, new = _terms(before, not same), _terms(after, not same)
    _mark_changed_passwords(before, after, new.get("graphics", []))
    differing = {term for term in {**old, **new} if old.get(term) != new.get(term)}
    olds = {term: old[term] for term in sorted(differing) if term in old}
    news = {term: new[term] for term in sorted(differing) if term in new}
    clean = metadata.without_machine(before), metadata.without_machine(after)
    if found is None or clean[0] is not before or clean[1] is not after:
        found = domain_xml.changes(*clean)
    rest = [change for change in found if not _is_covered(change.path, differing)]
    if rest:
        olds["xml"] = [f"{change.path}: {change.before}" for change in rest if change.before is not None]
        news["xml"] = [f"{change.path}: {change.after}" for change in rest if change.after is not None]
    return olds, news


def xml_difference(before: Element | None, after: Element | None) -> str:
    """Two definitions line by line, as ``diff -u`` tells them; None is no definition."""
    if before is None or after is None:
        shown = [None if one is None else domain_xml.without_secrets(one) for one in (before, after)]
    else:
        shown = [*domain_xml.shown(before, after)]
    lines = [[] if one is None else domain_xml.lines(one) for one in shown]
    return "\n".join(difflib.unified_diff(*lines, "before", "after", lineterm=""))


def _is_covered(path: str, differing: set[str]) -> bool:
    return any(term in differing and re.fullmatch(pattern, path) for term, pattern in _COVERED)


def _mark_changed_passwords(before: Element, after: Element, terms: list[Terms]) -> None:
    olds = {graphics.get("type"): graphics.get("passwd") for graphics in before.findall("devices/graphics")}
    for graphics, shown in zip(after.findall("devices/graphics"), terms):
        old = olds.get(graphics.get("type"))
        if old and graphics.get("passwd") not in (None, "", old):
            shown["password"] = SECRET_CHANGED
