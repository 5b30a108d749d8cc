# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a declaration of publish-subscribe nodes means, and the steps from what is to what shall be. Pure functions.

Private to this collection; it may change without notice.
"""

from __future__ import annotations

import typing as t

from . import _pubsub
from ._errors import InvalidSpec
from ._pubsub import NONE, Node, Values, values
from .archipel_protocol import jids, pubsub

Config = t.Dict[str, t.Any]

COMMON: Config = {
    "publish_model": "publishers",
    "deliver_notifications": True,
    "deliver_payloads": True,
    "notification_type": "headline",
    "send_last_published_item": "never",
}
# "max": as many as the server allows (XEP-0060, 16.4.4).
KEPT: Config = {**COMMON, "persist_items": True, "max_items": "max"}
PASSING: Config = {**COMMON, "persist_items": False}

KINDS: dict[str, dict[str, Config]] = {
    "tags": {pubsub.TAGS: {**KEPT, "access_model": "open", "notify_retract": False}},
    "roles": {pubsub.ROLES: {**KEPT, "access_model": "open", "notify_retract": False}},
    "adminaccounts": {pubsub.ADMIN_ACCOUNTS: {**KEPT, "access_model": "open", "notify_retract": True}},
    "vmparking": {
        pubsub.VM_PARKING: {**KEPT, "access_model": "whitelist", "notify_retract": True, "itemreply": "publisher"}
    },
    "vmrequest": {
        name: {**PASSING, "access_model": "whitelist", "notify_retract": False, "itemreply": "publisher"}
        for name in (pubsub.REQUESTS_IN, pubsub.REQUESTS_OUT)
    },
    "centralagent": {pubsub.CENTRAL_AGENT: {**PASSING, "access_model": "open", "notify_retract": True}},
}
# XEP-0060, 4.1. With "none" an account loses the one that it has.
AFFILIATIONS = ("owner", "publisher", "publish-only", "member", "outcast", NONE)
# ejabberd's default of the field max_payload_size.
PAYLOAD_SIZE = 60000


class Desired(t.NamedTuple):
    """One declared node. None, as an item's payload: it shall not be there; as one of the others: as it is."""

    name: str
    present: bool
    config: dict[str, Values]
    publishers: list[str] | None = None
    affiliations: dict[str, str] = {}
    purge_affiliations: bool = False
    items: dict[str, str | None] | None = None
    purge_items: bool = False


class Present(t.NamedTuple):
    """A node that is there, and of its items those that the declaration is about, as text of XML."""

    node: Node
    items: dict[str, str]


class Plan(t.NamedTuple):
    """What is to be done; ``config``, ``affiliations`` and ``publish`` hold what differs."""

    create: bool = False
    delete: bool = False
    config: dict[str, Values] = {}
    affiliations: dict[str, str] = {}
    publish: dict[str, str] = {}
    retract: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        return self != Plan()


def declared(params: t.Mapping[str, t.Any], owner: str) -> list[Desired]:
    """The nodes that the options mean, for the account ``owner``; InvalidSpec names all that is wrong with them."""
    nodes = KINDS[params["kind"]] if params["kind"] else {params["node"]: {}}
    problems: list[str] = []
    common = {
        "publishers": _publishers(params["publishers"], problems),
        "affiliations": _affiliations(params, owner, problems),
        "purge_affiliations": params["purge_affiliations"],
        "purge_items": params["purge_items"],
    }
    if params["purge_items"] and params["items"] is None:
        problems.append("purge_items: needs items; an empty list of them removes every item")
    if params["purge_affiliations"] and params["affiliations"] is None and params["publishers"] is None:
        problems.append("purge_affiliations: needs affiliations or publishers; empty ones remove all but the owner")
    found = []
    for name, config in nodes.items():
        wanted = {key: values(value) for key, value in {**config, **params["config"]}.items()}
        items = _items(params["items"], wanted, problems)
        found.append(Desired(name, params["state"] == "present", wanted, items=items, **common))
    if problems:
        raise InvalidSpec(list(dict.fromkeys(problems)))
    return found


def _publishers(given: t.Sequence[str] | None, problems: list[str]) -> list[str] | None:
    if given is None:
        return None
    problems += ["publishers: '%s' is no JID of an account" % jid for jid in given if not jids.node(jid)]
    return sorted({jids.bare(jid) for jid in given})


def _affiliations(params: t.Mapping[str, t.Any], owner: str, problems: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    publishers = [jids.bare(jid) for jid in params["publishers"] or ()]
    for index, entry in enumerate(params["affiliations"] or ()):
        jid, affiliation = jids.bare(entry["jid"]), entry["affiliation"]
        where = "affiliations[%d].jid" % index
        if not jids.node(jid):
            problems.append("%s: '%s' is no JID of an account" % (where, entry["jid"]))
        elif jid in found:
            problems.append("%s: %s is there twice" % (where, jid))
        elif jid == owner and affiliation != "owner":
            problems.append("%s: %s does this task and stays an owner" % (where, jid))
        elif jid in publishers and affiliation not in ("owner", "publisher"):
            problems.append("%s: %s is one of publishers and cannot be '%s'" % (where, jid, affiliation))
        found[jid] = affiliation
    return found


def _items(
    given: t.Sequence[t.Mapping[str, t.Any]] | None, config: t.Mapping[str, Values], problems: list[str]
) -> dict[str, str | None] | None:
    if given is None:
        return None
    found: dict[str, str | None] = {}
    size = (config.get("max_payload_size") or ("",))[0]
    limit = int(size) if size.isdigit() else PAYLOAD_SIZE
    for index, entry in enumerate(given):
        where = "items[%d]" % index
        if not entry["id"]:
            problems.append("%s.id: it is empty" % where)
        elif entry["id"] in found:
            problems.append("%s.id: '%s' is there twice" % (where, entry["id"]))
        content = entry["payload"] if entry["state"] == "present" else None
        found[entry["id"]] = None
        if entry["state"] == "present" and not content:
            problems.append("%s.payload: an item that is present has one" % where)
        elif content is not None:
            try:
                found[entry["id"]] = _payload(content, limit)
            except ValueError as exc:
                problems.append("%s.payload: %s" % (where, exc))
    return found


def _payload(content: str, limit: int) -> str:
    size = len(content.encode("utf-8"))
    if size > limit:
        raise ValueError("it has %d bytes, more than the %d of the node's max_payload_size" % (size, limit))
    return _pubsub.text(_pubsub.payload(content))


def plan(existing: Present | None, desired: Desired, owner: str) -> Plan:
    """The steps from what is to what shall be; ``owner`` is the bare JID that takes them."""
    if not desired.present:
        return Plan(delete=existing is not None)
    node, items = existing or Present(Node({}, {owner: "owner"}), {})
    wanted = desired.items or {}
    kept = {item for item, content in wanted.items() if content is not None}
    return Plan(
        create=existing is None,
        config={key: value for key, value in desired.config.items() if node.config.get(key) != value},
        affiliations=_steps_of_affiliations(node, desired, owner),
        publish={item: content for item, content in wanted.items() if content and items.get(item) != content},
        retract=tuple(sorted(item for item in items if item not in kept and (item in wanted or desired.purge_items))),
    )


def _steps_of_affiliations(node: Node, desired: Desired, owner: str) -> dict[str, str]:
    """JID to affiliation, where it is another than now. What a publisher needs, an owner has."""
    wanted = {jid: "publisher" for jid in desired.publishers or () if node.affiliations.get(jid) != "owner"}
    wanted.update(desired.affiliations)
    surplus = set() if desired.publishers is None else set(node.publishers())
    if desired.purge_affiliations:
        surplus = set(node.affiliations)
    surplus -= {owner, *wanted, *(desired.publishers or ())}
    steps = {**dict.fromkeys(surplus, NONE), **wanted}
    return {jid: steps[jid] for jid in sorted(steps) if node.affiliations.get(jid, NONE) != steps[jid]}


def faults(existing: Present | None, desired: Desired) -> list[str]:
    """What of a declaration the node's service cannot make true."""
    if not desired.present:
        return []
    config = {**(existing.node.config if existing else {}), **desired.config}
    unknown = [key for key in desired.config if existing and key not in existing.node.config]
    problems = ["config: the service knows no field '%s'" % key for key in unknown]
    kept = {item for item, content in (desired.items or {}).items() if content is not None}
    most = (config.get("max_items") or ("",))[0]
    if kept and config.get("persist_items") == ("false",):
        problems.append("items: the node %s keeps none (persist_items is false)" % desired.name)
    elif most.isdigit() and len(kept) > int(most):
        problems.append("items: %d are more than the %s that the node %s keeps" % (len(kept), most, desired.name))
    return problems


def outcome(existing: Present | None, desired: Desired, steps: Plan, owner: str) -> Present | None:
    """The node as the steps leave it, of its configuration what is declared."""
    if not desired.present:
        return None
    node, items = existing or Present(Node({}, {owner: "owner"}), {})
    affiliations = {**node.affiliations, **steps.affiliations}
    left = {item: content for item, content in items.items() if item not in steps.retract}
    return Present(
        Node(desired.config, {jid: one for jid, one in affiliations.items() if one != NONE}), {**left, **steps.publish}
    )
