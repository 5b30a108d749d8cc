# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Elements as the text that a client's stream carries (RFC 6120, 4.8 and 11)."""

from __future__ import annotations

import re
import typing as t
from xml.etree import ElementTree as ET

from . import payloads

# The namespace of the stream's content.
CLIENT = "jabber:client"
_XML = "http://www.w3.org/XML/1998/namespace"
# What XML cannot hold (XML 1.0, 2.2): one such character in a stanza, and the server ends the session.
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def written(stanza: ET.Element) -> str:
    """A stanza as text, whatever its own texts came from: what XML cannot hold is replaced by U+FFFD.

    A namespace is declared where it changes and without a prefix, as XMPP's simplest readers expect it. An element that
    has none is in that around it, as an <error/> and its <text/>.
    """
    parts: list[str] = []
    _write(parts.append, stanza, CLIENT)
    return _UNPRINTABLE.sub("\ufffd", "".join(parts))


def _write(add: t.Callable[[str], object], element: ET.Element, around: str) -> None:
    namespace, name = payloads.split_tag(element.tag)
    namespace = namespace or around
    add(f"<{name}" if namespace == around else f'<{name} xmlns="{_attribute(namespace)}"')
    for number, (key, value) in enumerate(element.items()):
        if key[0] == "{":
            foreign, key = payloads.split_tag(key)
            if foreign == _XML:
                key = f"xml:{key}"
            else:
                add(f' xmlns:a{number}="{_attribute(foreign)}"')
                key = f"a{number}:{key}"
        add(f' {key}="{_attribute(value)}"')
    text = element.text
    if not text and not len(element):
        add("/>")
        return
    add(">")
    if text:
        add(_text(text))
    for child in element:
        _write(add, child, namespace)
        if child.tail:
            add(_text(child.tail))
    add(f"</{name}>")


def _text(value: str) -> str:
    return value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _attribute(value: str) -> str:
    return _text(value).replace('"', "&quot;")
