# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The pubsub node on which an entity tells its changes (XEP-0060): made, kept to its readers, published on, removed."""

from __future__ import annotations

import asyncio
import hashlib
import typing as t
from xml.etree import ElementTree as ET

from archipel_protocol import errors, jids, namespaces as ns, pubsub

from . import xmpp

# Items that the node keeps: who was offline reads there what it missed.
KEPT = 100
_CONFIGURATION = {
    "pubsub#access_model": "whitelist",
    "pubsub#publish_model": "publishers",
    "pubsub#persist_items": "1",
    "pubsub#max_items": str(KEPT),
    "pubsub#deliver_notifications": "1",
    "pubsub#deliver_payloads": "1",
    "pubsub#notify_retract": "0",
    "pubsub#notify_config": "0",
    "pubsub#send_last_published_item": "never",
    "pubsub#notification_type": "headline",
}
_FORM = "http://jabber.org/protocol/pubsub#node_config"
# Times that a new node may be another's in disguise.
_TRIES = 3
_PAUSE = 0.3  # seconds
# Affiliations whose holders could tell lies there.
_WRITERS = ("owner", "publisher", "publish-only")


class Foreign(errors.ArchipelError):
    """Somebody else can write on the node, so it is not used."""


def digest(readers: t.Iterable[str]) -> str:
    """What the node is made of; a node with the same digest need not be looked at."""
    parts = [f"{name}={value}" for name, value in _CONFIGURATION.items()] + sorted(readers)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


async def ensure(session: xmpp.Session, node: str, readers: frozenset[str]) -> None:
    """The node exists, is ours alone, and ``readers``, bare JIDs, are those who can read it. Raises Foreign."""
    own = jids.bare(session.jid)
    made = await _made(session, node)
    affiliations = await _affiliations(session, node) if made is None else made
    if made is None:
        writers = sorted(jid for jid, one in affiliations.items() if one in _WRITERS and jid != own)
        if writers:
            raise Foreign(f"the node {node} is refused: {', '.join(writers)} can write on it, too")
        await _ask(session, _configure(node))
    readers = readers - {own}
    changes = {jid: "member" for jid in readers if affiliations.get(jid) != "member"}
    changes.update({jid: "none" for jid in affiliations if jid not in readers and jid != own})
    if changes:
        await _ask(session, _entries(node, "affiliation", changes))
    if made is None or not set(made) <= {own}:
        await _unsubscribe_others(session, node, readers)


async def _made(session: xmpp.Session, node: str) -> dict[str, str] | None:
    """Makes the node; its affiliations, None where there is one already.

    ejabberd knows nodes by numbers, and gives those of removed nodes to new ones. If it was killed after a removal, it
    may still have affiliations and items under that number. They go with the next removal; items that no affiliation
    knows of any more (23.01) do not, and nobody can remove them.
    """
    own = jids.bare(session.jid)
    made = False
    affiliations: dict[str, str] = {}
    for tries in range(1, _TRIES + 1):
        if not made:
            try:
                await _ask(session, creation(node))
            except xmpp.Conflict:
                return None
        made = True
        items, affiliations = await asyncio.gather(published(session, node), _affiliations(session, node))
        if tries == _TRIES or not items and set(affiliations) <= {own}:
            break
        try:
            await remove(session, node)
            made = False
        except xmpp.Unreachable:
            raise
        except errors.ArchipelError:
            # Its database refuses some removals when many come at once.
            await asyncio.sleep(_PAUSE)
    return affiliations


async def remove(session: xmpp.Session, node: str) -> None:
    """The node goes, with items and subscriptions; none there is no error, and another's is not ours to remove."""
    query = _pubsub(ns.PUBSUB_OWNER, "delete", {"node": node})
    try:
        await _ask(session, query)
    except (xmpp.NotFound, xmpp.Forbidden):
        pass


def publish(session: xmpp.Session, node: str, number: str, payload: ET.Element) -> asyncio.Future[ET.Element | None]:
    """Sends an item; the future is the answer."""
    query = _pubsub(ns.PUBSUB, "publish", {"node": node})
    item = ET.SubElement(query[0], f"{{{ns.PUBSUB}}}item", {"id": number})
    item.append(payload)
    return session.ask(_service(session), query)


async def published(session: xmpp.Session, node: str) -> frozenset[str]:
    """The ids of the items that the node keeps."""
    query = _pubsub(ns.PUBSUB, "items", {"node": node})
    answer = await session.request(_service(session), query, kind="get")
    found = () if answer is None else answer.iter(f"{{{ns.PUBSUB}}}item")
    return frozenset(item.get("id", "") for item in found)


async def _unsubscribe_others(session: xmpp.Session, node: str, readers: frozenset[str]) -> None:
    """A server may keep the subscription of who may not read any more (ejabberd does)."""
    answer = await _ask(session, _pubsub(ns.PUBSUB_OWNER, "subscriptions", {"node": node}), kind="get")
    found = () if answer is None else answer.iter(f"{{{ns.PUBSUB_OWNER}}}subscription")
    others = {one.get("jid", ""): "none" for one in found if jids.bare(one.get("jid", "")) not in readers}
    if others:
        await _ask(session, _entries(node, "subscription", others))


async def _affiliations(session: xmpp.Session, node: str) -> dict[str, str]:
    query = _pubsub(ns.PUBSUB_OWNER, "affiliations", {"node": node})
    try:
        answer = await _ask(session, query, kind="get")
    except xmpp.Forbidden:
        raise Foreign(f"the node {node} is refused: another account owns it") from None
    found = () if answer is None else answer.iter(f"{{{ns.PUBSUB_OWNER}}}affiliation")
    return {jids.bare(one.get("jid", "")): one.get("affiliation", "") for one in found}


async def _ask(session: xmpp.Session, query: ET.Element, kind: str = "set") -> ET.Element | None:
    return await session.request(_service(session), query, kind=kind)


def _service(session: xmpp.Session) -> str:
    return pubsub.service(jids.domain(session.jid))


def _pubsub(namespace: str, child: str, attributes: dict[str, str]) -> ET.Element:
    query = ET.Element(f"{{{namespace}}}pubsub")
    ET.SubElement(query, f"{{{namespace}}}{child}", attributes)
    return query


def creation(node: str) -> ET.Element:
    """The <pubsub/> that makes a node as it must be."""
    query = _pubsub(ns.PUBSUB, "create", {"node": node})
    ET.SubElement(query, f"{{{ns.PUBSUB}}}configure").append(_form())
    return query


def _configure(node: str) -> ET.Element:
    query = _pubsub(ns.PUBSUB_OWNER, "configure", {"node": node})
    query[0].append(_form())
    return query


def _form() -> ET.Element:
    form = ET.Element(f"{{{ns.DATA_FORMS}}}x", {"type": "submit"})
    for name, value in {"FORM_TYPE": _FORM, **_CONFIGURATION}.items():
        field = ET.SubElement(form, f"{{{ns.DATA_FORMS}}}field", {"var": name})
        ET.SubElement(field, f"{{{ns.DATA_FORMS}}}value").text = value
    return form


def _entries(node: str, name: str, values: t.Mapping[str, str]) -> ET.Element:
    """<affiliations/> or <subscriptions/> by JID."""
    query = _pubsub(ns.PUBSUB_OWNER, name + "s", {"node": node})
    for jid, value in sorted(values.items()):
        ET.SubElement(query[0], f"{{{ns.PUBSUB_OWNER}}}{name}", {"jid": jid, name: value})
    return query
