# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""A publish-subscribe service as its nodes' owner sees it (XEP-0060, 8).

Private to this collection; it may change without notice.
"""

from __future__ import annotations

import typing as t
from xml.etree import ElementTree as ET

from ._client import Client, Request
from ._errors import StanzaError
from .archipel_protocol import jids, namespaces as ns, payloads
from .archipel_protocol.errors import ArchipelError

FORM_TYPE = "http://jabber.org/protocol/pubsub#node_config"
# Fields of the form are named so (XEP-0060, 16.4.4); options of our modules leave it out.
PREFIX = "pubsub#"
# Times that a new node may be another's in disguise.
TRIES = 3
BOOLEANS = {"1": "true", "0": "false"}

# Of an account that has no affiliation with a node (XEP-0060, 4.1).
NONE = "none"
ITEM = "{%s}item" % ns.PUBSUB

Values = t.Tuple[str, ...]


class Node(t.NamedTuple):
    """A node that is there: the values of each field of its configuration, and each bare JID's affiliation."""

    config: dict[str, Values]
    affiliations: dict[str, str]

    def publishers(self) -> list[str]:
        """Who may publish without owning it."""
        return sorted(jid for jid, affiliation in self.affiliations.items() if affiliation == "publisher")


def values(value: t.Any) -> Values:
    """An option's value as a data form holds it (XEP-0004); booleans become "true" and "false"."""
    if isinstance(value, (list, tuple)):
        return tuple(sorted(str(element) for element in value))
    if isinstance(value, bool):
        return (str(value).lower(),)
    return () if value is None else (str(value),)


class _Builder(ET.TreeBuilder):
    """Refuses document type declarations: they define entities, and XMPP has none (RFC 6120, 11.1)."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise ValueError("it has a document type declaration")


def payload(content: str) -> ET.Element:
    """The one element that XML text holds, as it is inside of an item; ValueError tells what is wrong."""
    try:
        element = ET.fromstring(content, ET.XMLParser(target=_Builder()))
    except ET.ParseError as exc:
        raise ValueError("it is no XML: %s" % exc) from None
    foreign = [name for part in element.iter() for name in part.keys() if name.startswith("{")]
    if foreign:
        raise ValueError("attributes have no namespace here, as %s has" % foreign[0])
    _inherit(element)
    return element


def _inherit(element: ET.Element) -> None:
    """Elements without a namespace get that of an item, which is around them on the wire."""
    if not payloads.split_tag(element.tag)[0]:
        element.tag = "{%s}%s" % (ns.PUBSUB, element.tag)
        for child in element:
            _inherit(child)


def text(element: ET.Element, outer: str = ns.PUBSUB) -> str:
    """A payload in the one form that is compared and shown: attributes sorted, no blanks between elements."""
    return ET.tostring(_plain(element, outer), encoding="unicode")


def _plain(element: ET.Element, outer: str) -> ET.Element:
    """A copy without prefixes; ``outer`` is the namespace of the element around it."""
    namespace, name = payloads.split_tag(element.tag)
    copy = ET.Element(name, {} if namespace == outer else {"xmlns": namespace})
    copy.attrib.update(sorted(element.items()))
    copy.extend(_plain(child, namespace) for child in element)
    copy.text = _significant(element.text) if len(element) else element.text
    for part, child in zip(copy, element):
        part.tail = _significant(child.tail)
    return copy


def _significant(content: str | None) -> str | None:
    return content if content and content.strip() else None


class Service:
    """The requests that an owner of nodes makes. Every method may raise what Client.send raises."""

    def __init__(self, client: Client, jid: str) -> None:
        self._client = client
        self._jid = jid

    def read(self, name: str) -> Node | None:
        """The node, or None if there is none."""
        form, affiliations = self._client.gather(
            [self._request(ns.PUBSUB_OWNER, child, name, "get") for child in ("configure", "affiliations")]
        )
        if isinstance(form, StanzaError) and form.condition == "item-not-found":
            return None
        for answer in (form, affiliations):
            if isinstance(answer, ArchipelError):
                raise _explained(answer, name, self._client.options.jid)
        return Node(_fields(form), _affiliations(affiliations))

    def holds_items(self, name: str) -> bool:
        """Whether the node keeps any item."""
        request = self._request(ns.PUBSUB, "items", name, "get")
        request.payload[0].set("max_items", "1")
        answer = self._client.send(request)
        return answer is not None and next(answer.iter(ITEM), None) is not None

    def items(self, name: str, ids: t.Collection[str] | None = None) -> dict[str, str]:
        """Item id to payload, as `text` gives it, of these items as far as they are there; None: of all."""
        request = self._request(ns.PUBSUB, "items", name, "get")
        for item in sorted(ids or ()):
            ET.SubElement(request.payload[0], ITEM, {"id": item})
        try:
            answer = self._client.send(request)
        except StanzaError as exc:
            if ids is None or exc.condition != "item-not-found":
                raise
            return {}  # ejabberd says so when it is asked for one item
        found = () if answer is None else answer.iter(ITEM)
        return {item.get("id", ""): "".join(map(text, item)) for item in found}

    def publish(self, name: str, items: t.Mapping[str, str]) -> None:
        """These items are there, with these payloads; one request an item (XEP-0060, 7.1.1)."""
        requests = []
        for item, content in items.items():
            requests.append(self._request(ns.PUBSUB, "publish", name))
            ET.SubElement(requests[-1].payload[0], ITEM, {"id": item}).append(payload(content))
        self._all(requests)

    def retract(self, name: str, items: t.Iterable[str]) -> None:
        """These items go."""
        requests = []
        for item in items:
            requests.append(self._request(ns.PUBSUB, "retract", name))
            ET.SubElement(requests[-1].payload[0], ITEM, {"id": item})
        self._all(requests)

    def create(self, name: str, config: t.Mapping[str, Values]) -> None:
        """A node with this configuration from its first moment on, that has no affiliation of a node before it.

        ejabberd knows nodes by numbers, and gives those of removed nodes to new ones. If it was killed after a removal,
        it may still have affiliations and items under that number. They go with the next removal; items that no
        affiliation knows of any more (23.01) do not, and nobody can remove them.
        """
        affiliations: t.Collection[str] = ()
        for tries in range(1, TRIES + 1):
            request = self._request(ns.PUBSUB, "create", name)
            ET.SubElement(request.payload, "{%s}configure" % ns.PUBSUB).append(_form(config))
            self._client.send(request)
            node = self.read(name)
            affiliations = () if node is None else node.affiliations
            if len(affiliations) == 1 and (tries == TRIES or not self.holds_items(name)):
                return
            self.delete(name)
        raise ArchipelError("%s gives the new node %s affiliations of another one" % (self._jid, name))

    def configure(self, name: str, config: t.Mapping[str, Values]) -> None:
        """These fields get these values; the others stay."""
        request = self._request(ns.PUBSUB_OWNER, "configure", name)
        request.payload[0].append(_form(config))
        self._client.send(request)

    def affiliate(self, name: str, affiliations: t.Mapping[str, str]) -> None:
        """These bare JIDs get these affiliations; the others keep theirs."""
        request = self._request(ns.PUBSUB_OWNER, "affiliations", name)
        for jid, affiliation in affiliations.items():
            ET.SubElement(
                request.payload[0], "{%s}affiliation" % ns.PUBSUB_OWNER, {"jid": jid, "affiliation": affiliation}
            )
        self._client.send(request)

    def delete(self, name: str) -> None:
        """The node goes, with its items and subscriptions."""
        self._client.send(self._request(ns.PUBSUB_OWNER, "delete", name))

    def _all(self, requests: list[Request]) -> None:
        """Sends all requests; raises the first error among the answers."""
        for answer in self._client.gather(requests):
            if isinstance(answer, ArchipelError):
                raise answer

    def _request(self, namespace: str, child: str, name: str, kind: str = "set") -> Request:
        payload = ET.Element("{%s}pubsub" % namespace)
        ET.SubElement(payload, "{%s}%s" % (namespace, child), {"node": name})
        return Request(self._jid, payload, kind)


def _form(config: t.Mapping[str, Values]) -> ET.Element:
    form = ET.Element("{%s}x" % ns.DATA_FORMS, {"type": "submit"})
    for name, content in [("FORM_TYPE", (FORM_TYPE,)), *((PREFIX + key, config[key]) for key in sorted(config))]:
        field = ET.SubElement(form, "{%s}field" % ns.DATA_FORMS, {"var": name})
        for text in content:
            ET.SubElement(field, "{%s}value" % ns.DATA_FORMS).text = text
    return form


def _fields(answer: ET.Element | None) -> dict[str, Values]:
    """Field name without prefix to its values, of the form in an answer."""
    found = {}
    for field in () if answer is None else answer.iter("{%s}field" % ns.DATA_FORMS):
        content = [value.text or "" for value in field.findall("{%s}value" % ns.DATA_FORMS)]
        if field.get("type") == "boolean":
            content = [BOOLEANS.get(text, text) for text in content]
        if field.get("var", "").startswith(PREFIX):
            found[field.get("var", "")[len(PREFIX) :]] = tuple(sorted(content))
    return found


def _affiliations(answer: ET.Element | None) -> dict[str, str]:
    entries = () if answer is None else answer.iter("{%s}affiliation" % ns.PUBSUB_OWNER)
    found = {jids.bare(entry.get("jid", "")): entry.get("affiliation", NONE) for entry in entries}
    return {jid: affiliation for jid, affiliation in found.items() if affiliation != NONE}


def _explained(error: ArchipelError, name: str, jid: str) -> ArchipelError:
    """A refusal to show a node's configuration, in words of who owns it."""
    if isinstance(error, StanzaError) and error.condition == "forbidden":
        return StanzaError("%s is no owner of the node %s, another account made it" % (jid, name), error.condition)
    return error
