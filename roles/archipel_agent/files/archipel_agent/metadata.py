# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What of a virtual machine lives in its domain's <metadata>: its tags, and whose doing it is. Pure; no libvirt.

https://libvirt.org/formatdomain.html#general-metadata: an application owns one element below <metadata>, by its
namespace. Ours is ``<archipel:tags xmlns:archipel="archipel:tags"><archipel:tag>web</archipel:tag></archipel:tags>``,
and it moves with the definition.
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
    if kept is None or _element(wanted) is not None:
        return
    _place(wanted).append(copy.deepcopy(kept))


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
