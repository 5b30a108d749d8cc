# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Elements of domain XML in which only what is stated appears.

Private to this collection; it may change without notice.
"""

from __future__ import annotations

import typing as t
from xml.etree import ElementTree as ET


def value(stated: t.Any) -> str:
    """A value of an option as libvirt writes it."""
    if isinstance(stated, bool):
        return "yes" if stated else "no"
    return str(stated)


def stated(**attributes: t.Any) -> dict[str, str]:
    """The attributes that are not None; a trailing underscore keeps a name from being a keyword of Python."""
    return {name.rstrip("_"): value(given) for name, given in attributes.items() if given is not None}


def add(parent: ET.Element, tag: str, **attributes: t.Any) -> ET.Element:
    """A new child with those attributes that are not None."""
    return ET.SubElement(parent, tag, stated(**attributes))


def add_if(parent: ET.Element, tag: str, **attributes: t.Any) -> None:
    """A new child, if any of its attributes is not None."""
    if any(given is not None for given in attributes.values()):
        add(parent, tag, **attributes)


def child(parent: ET.Element, tag: str) -> ET.Element:
    """The child with this tag, made if there is none."""
    found = parent.find(tag)
    return ET.SubElement(parent, tag) if found is None else found


def put(parent: ET.Element, tag: str, text: t.Any, **attributes: t.Any) -> ET.Element:
    """The child with this tag, made if there is none, with this text and those attributes that are not None."""
    element = child(parent, tag)
    element.text = value(text)
    element.attrib.update(stated(**attributes))
    return element


def text(element: ET.Element) -> str:
    """The element as text."""
    return ET.tostring(element, encoding="unicode")
