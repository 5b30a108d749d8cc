# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Requests, replies and errors as elements: the inside of an <iq/>, whoever sends it.

A request is ``<query xmlns="NS"><archipel action="NAME" key="value">payload</archipel></query>``, a reply the same
<query/> with the payload as its children.
"""

from __future__ import annotations

import datetime
import typing as t
from xml.etree import ElementTree as ET

from . import namespaces as ns
from .errors import ArchipelError, LibvirtError, MalformedRequest, PermissionDenied

# Largest stanza, in bytes: what the role ejabberd sets, less what goes around a payload. The server ends the session of
# who sends a larger one.
MAX_STANZA = 4 * 1024 * 1024 - 4096
# Deepest nesting of elements; a domain's definition has a dozen.
MAX_DEPTH = 64

_BY_NAMESPACE: dict[str, type[ArchipelError]] = {
    ns.ERROR_GENERIC: ArchipelError,
    ns.ERROR_PERMISSION: PermissionDenied,
    ns.ERROR_LIBVIRT: LibvirtError,
}


def split_tag(tag: str) -> tuple[str, str]:
    """(namespace, local name) of an element's tag."""
    if tag.startswith("{"):
        namespace, _dummy, name = tag[1:].partition("}")
        return namespace, name
    return "", tag


def wire_size(root: ET.Element) -> int:
    """The bytes that an element takes at most when it is sent; raises MalformedRequest where it is nested too deep.

    Deep trees exhaust the stack of whoever walks them recursively.
    """
    size, depth, level = 0, 0, [root]
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise MalformedRequest(f"the elements are nested deeper than {MAX_DEPTH}")
        following: list[ET.Element] = []
        for element in level:
            size += 2 * len(element.tag) + 16 + text_size(element.text) + text_size(element.tail)
            # The prefix of one in a namespace is declared beside it.
            size += sum(
                len(name) + (24 if name[0] == "{" else 4) + text_size(value) for name, value in element.items()
            )
            following.extend(element)
        level = following
    return size


def check_size(root: ET.Element, what: str) -> None:
    """Raises ArchipelError where an element, which ``what`` names, is more than a stanza can carry."""
    if wire_size(root) > MAX_STANZA:
        raise ArchipelError(f"{what} is larger than the {MAX_STANZA >> 10} KiB of a stanza; ask for less")


def text_size(text: str | None) -> int:
    """Bytes of ``text`` in UTF-8, its quotes and brackets written as entities: at most so many are sent."""
    if not text:
        return 0
    return len(text.encode("utf-8", "replace")) + 5 * sum(map(text.count, "&<>\"'"))


def request(
    namespace: str,
    action: str,
    attributes: t.Mapping[str, str] | None = None,
    children: t.Iterable[ET.Element] = (),
    text: str | None = None,
) -> ET.Element:
    """The <query/> that asks for ``action``."""
    query = ET.Element(f"{{{namespace}}}query")
    archipel = ET.SubElement(query, f"{{{namespace}}}archipel", {"action": action})
    for key, value in (attributes or {}).items():
        archipel.set(key, value)
    archipel.extend(children)
    archipel.text = text
    return query


def parse_request(query: ET.Element) -> tuple[str, str, ET.Element]:
    """(namespace, action, <archipel/>) of a request; raises MalformedRequest.

    Archipel's client writes <archipel/> in another namespace than its parent at times, so only its name counts.
    """
    namespace, name = split_tag(query.tag)
    archipel = next((child for child in query if split_tag(child.tag)[1] == "archipel"), None)
    if name != "query" or archipel is None or not archipel.get("action"):
        raise MalformedRequest("a request is <query xmlns='NAMESPACE'><archipel action='NAME'/></query>")
    return namespace, archipel.get("action", ""), archipel


def reply(namespace: str, children: t.Iterable[ET.Element] = (), text: str | None = None) -> ET.Element:
    """The <query/> that answers a request."""
    query = ET.Element(f"{{{namespace}}}query")
    query.extend(children)
    query.text = text
    return query


def error(fault: ArchipelError) -> ET.Element:
    """The <error/> that tells of ``fault``: Archipel's form, and the condition that RFC 6120, 8.3.2 asks for."""
    element = ET.Element("error", {"code": str(fault.code), "type": "cancel"})
    ET.SubElement(element, f"{{{ns.STANZAS}}}undefined-condition")
    ET.SubElement(element, "{{{}}}{}".format(fault.namespace, fault.namespace.replace(":", "-")))
    ET.SubElement(element, "text").text = fault.message
    return element


def push_namespace(kind: str) -> str:
    """The namespace of the pushes of one kind, like "virtualmachine:control"."""
    return ns.PUSH + kind


def push(
    kind: str, change: str, jid: str, date: datetime.datetime, children: t.Iterable[ET.Element] = ()
) -> ET.Element:
    """The <push/> that tells of a change of ``jid``, a bare JID; ``date`` is in UTC, and written as XEP-0082 asks."""
    stamp = date.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    element = ET.Element(f"{{{push_namespace(kind)}}}push", {"date": stamp, "change": change, "jid": jid})
    element.extend(children)
    return element


def parse_push(text: str) -> str:
    """``text`` if it is a serialised <push/>; raises MalformedRequest."""
    try:
        # No document type, so no entities.
        element = None if "<!" in text else ET.fromstring(text)
    except ET.ParseError:
        element = None
    namespace, name = ("", "") if element is None else split_tag(element.tag)
    if element is None or name != "push" or not namespace.startswith(ns.PUSH):
        raise MalformedRequest("a push is <push xmlns='archipel:push:KIND' change='CHANGE'/>")
    # Nested too deep, it could be kept, but never sent.
    wire_size(element)
    return text


def parse_error(element: ET.Element) -> ArchipelError | None:
    """The error inside an <error/> of Archipel's form; None if it is one of XMPP's own conditions."""
    kind = None
    text = ""
    for child in element:
        namespace, name = split_tag(child.tag)
        kind = _BY_NAMESPACE.get(namespace, kind)
        if name == "text":
            text = child.text or ""
    if kind is None:
        return None
    code = element.get("code", "")
    return kind(text, int(code) if code.lstrip("-").isdigit() else None)
