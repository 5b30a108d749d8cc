# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What of a virtual machine lives in its domain's <metadata>: its tags, whose doing it is, what declarations keep.

Pure; no libvirt. https://libvirt.org/formatdomain.html#general-metadata: an application owns one element below
<metadata>, by its namespace. Ours is ``<archipel:tags xmlns:archipel="archipel:tags"><archipel:tag>web</archipel:tag>
</archipel:tags>``, and it moves with the definition. So does ``<machine xmlns="archipel:declaration" protected="yes">
<volume pool="default" name="web.qcow2"/></machine>``: the volumes that declarations made for this machine, and whether
it is protected.
"""

from __future__ import annotations

import copy
import typing as t

from lxml import etree

from archipel_protocol import namespaces as ns, tags as words

from . import domain_xml
from .domain_xml import Element

PREFIX = "archipel"
ARRIVING = "archipel:arriving"
_ELEMENT = f"{{{ns.TAGS}}}tags"
_MACHINE = f"{{{ns.DECLARATION}}}machine"
_VOLUME = f"{{{ns.DECLARATION}}}volume"
_ARRIVING = f"{{{ARRIVING}}}arriving"


def tags_of(domain: Element) -> list[str]:
    """The tags in a definition, sorted."""
    element = _element(domain)
    return [] if element is None else read(element)


def read(element: Element) -> list[str]:
    """The tags in our element. Anybody who may define a domain can write there: what is no tag is none."""
    texts = [(child.text or "").strip() for child in element if etree.QName(child).localname == "tag"]
    return sorted({text for text in texts if words.problem(text) is None})


def written(tags: t.Iterable[str]) -> str:
    """Our element as virDomainSetMetadata takes it, which adds the namespace."""
    element = etree.Element("tags")
    for tag in tags:
        etree.SubElement(element, "tag").text = tag
    return domain_xml.serialise(element)


def keep_tags(existing: Element | None, wanted: Element) -> None:
    """Have a definition that states no tags keep those that there are, in place."""
    kept = None if existing is None else _element(existing)
    if kept is not None and _element(wanted) is None:
        _place(wanted).append(copy.deepcopy(kept))
    disown(wanted)
    machine = None if existing is None else existing.find(f"metadata/{_MACHINE}")
    if machine is not None:
        _place(wanted).append(copy.deepcopy(machine))


def disown(domain: Element) -> None:
    """Takes away, in place, what the agent alone writes: whoever forged it would have other machines' volumes."""
    for tag in (_MACHINE, _ARRIVING):
        for other in domain.findall(f"metadata/{tag}"):
            other.getparent().remove(other)


def is_protected(domain: Element) -> bool:
    """Whether a declaration protects the machine from being stopped and removed."""
    machine = domain.find(f"metadata/{_MACHINE}")
    return machine is not None and protects(machine)


def protects(machine: Element) -> bool:
    """The same, of what declarations keep of the machine."""
    return machine.get("protected") == "yes"


def refusal(name: str, what: str) -> str:
    """Why a protected machine is not ``what``: "stopped" or "removed"."""
    return f"the virtual machine '{name}' is protected and not {what}; declare protected as false first"


def owned(domain: Element) -> list[tuple[str, str]]:
    """(pool, name) of the volumes that declarations made for the machine."""
    volumes = domain.findall(f"metadata/{_MACHINE}/{_VOLUME}")
    return [(volume.get("pool", ""), volume.get("name", "")) for volume in volumes]


def record(
    existing: Element | None, stated: Element, protected: bool | None, made: t.Iterable[tuple[str, str]]
) -> None:
    """Have ``stated`` say what is to be kept of the machine from now on, in place; nothing where that stays.

    What somebody else wrote there, in a definition of their own, does not count.
    """
    disown(stated)
    before = (False, []) if existing is None else (is_protected(existing), owned(existing))
    after = (before[0] if protected is None else protected, list(dict.fromkeys([*before[1], *made])))
    if after == before:
        return
    machine = etree.SubElement(_place(stated), _MACHINE, nsmap={PREFIX: ns.DECLARATION})
    if after[0]:
        machine.set("protected", "yes")
    for pool, name in after[1]:
        etree.SubElement(machine, _VOLUME, {"pool": pool, "name": name})


def without_machine(domain: Element) -> Element:
    """``domain`` without what declarations keep of it; a copy where it has such."""
    if domain.find(f"metadata/{_MACHINE}") is None:
        return domain
    clean = copy.deepcopy(domain)
    for place in clean.findall("metadata"):
        for machine in place.findall(_MACHINE):
            place.remove(machine)
        if not len(place):
            clean.remove(place)
    return clean


def mark(domain: Element, token: str) -> None:
    """Marks a definition as one that is being brought here, in place: no other is ever taken back."""
    element = etree.SubElement(_place(domain), _ARRIVING, nsmap={PREFIX: ARRIVING})
    element.text = token


def is_marked(domain: Element, token: str) -> bool:
    """Whether a definition has this mark."""
    return domain_xml.text_of(domain, f"metadata/{_ARRIVING}") == token


def _place(domain: Element) -> Element:
    found = domain.find("metadata")
    return etree.SubElement(domain, "metadata") if found is None else found


def _element(domain: Element) -> Element | None:
    return domain.find(f"metadata/{_ELEMENT}")
