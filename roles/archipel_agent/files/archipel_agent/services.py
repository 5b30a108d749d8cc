# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What every entity answers beside Archipel's own: who it is, what it can do, that it lives, its commands.

XEP-0030 (disco), XEP-0050 (commands), XEP-0092 (version), XEP-0199 (ping).
"""

from __future__ import annotations

import typing as t
from xml.etree import ElementTree as ET

from archipel_protocol import namespaces as ns

from . import adhoc, dispatch
from .commands import Caller
from .version import VERSION

if t.TYPE_CHECKING:
    from .entity import Entity

_FEATURES = frozenset((ns.COMMANDS, ns.DATA_FORMS, ns.DISCO_INFO, ns.DISCO_ITEMS, ns.PING, ns.VERSION))


async def answer(entity: Entity, kind: str, sender: str, payload: ET.Element) -> ET.Element | None:
    """The payload of the answer; raises adhoc.Refused, or UnknownAction where no service is asked for."""
    caller = Caller(entity, entity.agent.permissions, sender)
    if kind == "get" and payload.tag == f"{{{ns.PING}}}ping":
        return None
    if kind == "get" and payload.tag == f"{{{ns.VERSION}}}query":
        return _version()
    if kind == "get" and payload.tag == f"{{{ns.DISCO_INFO}}}query":
        return _info(caller, payload.get("node", ""))
    if kind == "get" and payload.tag == f"{{{ns.DISCO_ITEMS}}}query":
        return _items(caller, payload.get("node", ""))
    if kind == "set" and payload.tag == f"{{{ns.COMMANDS}}}command":
        return await adhoc.execute(caller, payload)
    raise dispatch.UnknownAction


def _version() -> ET.Element:
    """Without <os/>: it would tell an attacker more than a person."""
    query = ET.Element(f"{{{ns.VERSION}}}query")
    ET.SubElement(query, f"{{{ns.VERSION}}}name").text = "archipel-agent"
    ET.SubElement(query, f"{{{ns.VERSION}}}version").text = VERSION
    return query


def _info(caller: Caller, node: str) -> ET.Element:
    if not node:
        spoken = {one.namespace for one in dispatch.handlers(caller.entity.kind)}
        return _description("", (*caller.entity.identity, caller.entity.name), _FEATURES | spoken)
    if node == ns.COMMANDS:
        return _description(node, ("automation", "command-list", "Commands"), {ns.COMMANDS})
    command = adhoc.find(caller, node)
    return _description(node, ("automation", "command-node", command.label), {ns.COMMANDS, ns.DATA_FORMS})


def _description(node: str, identity: tuple[str, str, str], features: t.Iterable[str]) -> ET.Element:
    query = ET.Element(f"{{{ns.DISCO_INFO}}}query", {"node": node} if node else {})
    category, kind, name = identity
    ET.SubElement(query, f"{{{ns.DISCO_INFO}}}identity", {"category": category, "type": kind, "name": name})
    for feature in sorted(features):
        ET.SubElement(query, f"{{{ns.DISCO_INFO}}}feature", {"var": feature})
    return query


def _items(caller: Caller, node: str) -> ET.Element:
    """The commands are the only items; a command itself has none."""
    query = ET.Element(f"{{{ns.DISCO_ITEMS}}}query", {"node": node} if node else {})
    if node == ns.COMMANDS:
        query.extend(adhoc.items(caller))
    elif node:
        adhoc.find(caller, node)
    return query
