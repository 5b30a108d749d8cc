# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files of the host that one machine has for itself, and that libvirt writes, or deletes with it. Pure; no libvirt.

Two machines with the same variables of firmware would overwrite each other's, and the end of one would be that of both.
"""

from __future__ import annotations

import posixpath
import typing as t

from .domain_xml import Element, attribute_of, text_of

# Where libvirt itself keeps the variables of a machine's firmware.
NVRAM = "/var/lib/libvirt/qemu/nvram"


def own(domain: Element) -> set[str]:
    """What no other machine may name: variables of the firmware, and firmware that the guest may write into."""
    boot = domain.find("os")
    if boot is None:
        return set()
    places = set(boot.findall("nvram"))
    loaders = boot.findall("loader")
    flash = [loader for loader in loaders if loader.get("type") == "pflash"]
    stated = _paths(*places)
    if not stated and (places or flash or boot.get("firmware") == "efi"):
        name = text_of(domain, "name")
        stated = {f"{NVRAM}/{name}_VARS.{suffix}" for suffix in ("fd", "qcow2")}
    return stated | _paths(*(loader for loader in flash if loader.get("readonly") != "yes"))


def stated_variables(domain: Element) -> str:
    """The file that a definition has the variables of the firmware in; "" where libvirt chooses it."""
    return text_of(domain, "os/nvram") or attribute_of(domain, "os/nvram/source", "file")


def _paths(*elements: Element) -> set[str]:
    """The files that elements stand for, not what they are made from."""
    found = {"".join(element.itertext()).strip() for element in elements}
    found |= {source.get("file", "") for element in elements for source in element.iter("source")}
    return {posixpath.normpath(path) for path in found if path.startswith("/")}


def named(domain: Element) -> set[str]:
    """Every path in a definition, and those that libvirt chooses where none is stated."""
    found = own(domain)
    for element in domain.iter():
        words = [*element.attrib.values(), element.text or ""]
        found |= {posixpath.normpath(word.strip()) for word in words if word.strip().startswith("/")}
    return found


def shared(domain: Element, others: t.Iterable[Element]) -> dict[str, str]:
    """The own files of ``domain`` that another machine names, each with the name of one that does."""
    mine = own(domain)
    return {path: text_of(other, "name") for other in others for path in sorted(mine & named(other))}
