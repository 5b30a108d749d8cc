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
from .archipel_protocol import jids, namespaces as ns
from .archipel_protocol.errors import ArchipelError

FORM_TYPE = "http://jabber.org/protocol/pubsub#node_config"
# Fields of the form are named so (XEP-0060, 16.4.4); options of our modules leave it out.
PREFIX = "pubsub#"
BOOLEANS = {"1": "true", "0": "false"}

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
        return answer is not None and next(answer.iter("{%s}item" % ns.PUBSUB), None) is not None

    def create(self, name: str, config: t.Mapping[str, Values]) -> None:
        """A node with this configuration from its first moment on."""
        request = self._request(ns.PUBSUB, "create", name)
        ET.SubElement(request.payload, "{%s}configure" % ns.PUBSUB).append(_form(config))
        self._client.send(request)

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
    return {jids.bare(entry.get("jid", "")): entry.get("affiliation", "none") for entry in entries}


def _explained(error: ArchipelError, name: str, jid: str) -> ArchipelError:
    """A refusal to show a node's configuration, in words of who owns it."""
    if isinstance(error, StanzaError) and error.condition == "forbidden":
        return StanzaError("%s is no owner of the node %s, another account made it" % (jid, name), error.condition)
    return error
