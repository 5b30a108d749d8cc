# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""archipel:grants: the roles, groups and grants of this hypervisor's agent, declared as a whole.

plan and apply read the same declaration with the same function and ask the same questions; only apply stores what comes
of it.
"""

from __future__ import annotations

import typing as t

from archipel_protocol import errors, grants as wire, jids, namespaces as ns
from archipel_protocol.declaration import decode, encode
from archipel_protocol.permissions import KINDS, NAMES

from . import domains, granting
from .dispatch import Reply, Request, handler
from .grants import EVERYWHERE, GROUP, ROLE, Names, Table

if t.TYPE_CHECKING:
    from .agent import Agent
    from .hypervisor import HypervisorEntity

# (entity, subject) of a grant
_Pair = t.Tuple[str, str]
_LONGEST = 1000  # characters of a name or a selector; a JID has at most 3071 (RFC 7622, 3.1), none in use comes near
_NAMED = {"roles": "permissions", "groups": "members"}


@handler(ns.GRANTS, wire.PLAN, "permission_get", on="hypervisor", code=errors.CODE_PERMISSION_GET, reads=True)
async def plan(entity: HypervisorEntity, request: Request) -> Reply:
    """What apply would change, or why it would not."""
    before, after, unknown = await _decide(entity.agent, request)
    return _told(entity.agent, before, after, unknown)


@handler(ns.GRANTS, wire.APPLY, "permission_set", on="hypervisor", code=errors.CODE_PERMISSION_SET)
async def apply(entity: HypervisorEntity, request: Request) -> Reply:
    """Makes the declaration true, all of it or nothing."""
    before, after, unknown = await _decide(entity.agent, request)
    request.permissions.replace(after)
    return _told(entity.agent, before, after, unknown)


async def _decide(agent: Agent, request: Request) -> tuple[Table, Table, list[str]]:
    """(what is stored, what shall be, selectors that select nothing here); raises ArchipelError."""
    declared = decode(request.text)
    _refuse_others(declared, {*_NAMED, "grants", "purge"})
    roles, groups = (_named(declared, key) for key in _NAMED)
    rows = [_row(row) for row in _list(declared, "grants")]
    purge = frozenset(_texts(declared.get("purge", []), "purge"))
    if purge - {*_NAMED, "grants"}:
        raise errors.MalformedRequest("'purge' may hold roles, groups and grants")
    found = await _selected(agent, {selector for dummy, selectors, dummy in rows for selector in selectors})
    # From here on nothing waits, so that nobody changes what this is decided on.
    before = request.permissions.table
    pairs: dict[_Pair, set[str]] = {}
    for subject, selectors, names in rows:
        for entity in {entity for selector in selectors for entity in found.get(selector, ())}:
            _refuse_unknown(agent, entity, names)
            pairs.setdefault((entity, subject), set()).update(names)
    after = _after(before, roles, groups, pairs, purge)
    granting.check(request.permissions, request.sender, after, "permission_set")
    return before, after, sorted(selector for selector, entities in found.items() if not entities)


def _after(
    before: Table,
    roles: t.Mapping[str, Names | None],
    groups: t.Mapping[str, Names | None],
    pairs: t.Mapping[_Pair, t.Collection[str]],
    purge: frozenset[str],
) -> Table:
    kept_roles, kept_groups = (
        {name: values for name, values in {**({} if key in purge else old), **new}.items() if values is not None}
        for key, old, new in (("roles", before.roles, roles), ("groups", before.groups, groups))
    )
    kept = () if "grants" in purge else (one for one in before.grants if (one.entity, one.subject) not in pairs)
    stated = (granting.grant(*pair, name) for pair, names in pairs.items() for name in names)
    gone = {ROLE + name for name in set(before.roles) - set(kept_roles)}
    gone |= {GROUP + name for name in set(before.groups) - set(kept_groups)}
    grants = frozenset(one for one in kept if one.name not in gone and one.subject not in gone)
    return Table(kept_roles, kept_groups, grants | frozenset(stated))


async def _selected(agent: Agent, selectors: set[str]) -> dict[str, set[str]]:
    """The entities of this hypervisor that each selector means."""
    found: dict[str, set[str]] = {}
    by_tag: dict[str, set[str]] = {}
    if any(selector.startswith(wire.TAG) for selector in selectors):
        for machine in await agent.libvirt.call(domains.survey, lambda uuid, name: False):
            for tag in machine.tags:
                by_tag.setdefault(wire.TAG + tag, set()).add(machine.uuid)
    managed = {uuid: vm for uuid, vm in agent.vms.items() if agent.is_managed(uuid)}
    for selector in selectors:
        if selector in (wire.ALL, f"{agent.node}/{wire.ALL}"):
            found[selector] = {EVERYWHERE}
        elif selector == agent.node:
            found[selector] = {jids.bare(agent.jid)}
        else:
            named = {uuid for uuid, vm in managed.items() if selector in (uuid, vm.name)}
            uuids = (by_tag.get(selector, set()) & set(managed)) | named
            found[selector] = {jids.vm_jid(uuid, agent.domain) for uuid in uuids}
    return found


def _told(agent: Agent, before: Table, after: Table, unknown: list[str]) -> str:
    old, new = _shown(agent, before, after), _shown(agent, after, before)
    return encode({"before": old, "after": new, "unknown": unknown})


def _shown(agent: Agent, table: Table, other: Table) -> dict[str, t.Any]:
    """What of ``table`` differs from ``other``, in the words of the declaration."""
    shown: dict[str, t.Any] = {}
    for key in _NAMED:
        mine, theirs = getattr(table, key), getattr(other, key)
        differing = {name: sorted(values) for name, values in mine.items() if theirs.get(name) != values}
        if differing:
            shown[key] = differing
    pairs = {(entity, subject) for entity, subject, dummy in table.grants ^ other.grants}
    granted: dict[_Pair, set[str]] = {}
    for entity, subject, name in table.grants:
        if (entity, subject) in pairs:
            granted.setdefault((entity, subject), set()).add(name)
    if granted:
        rows = [_grant_shown(agent, entity, subject, names) for (entity, subject), names in granted.items()]
        shown["grants"] = sorted(rows, key=lambda row: (row["entity"], row.get("user", ""), row.get("group", "")))
    return shown


def _grant_shown(agent: Agent, entity: str, subject: str, names: set[str]) -> dict[str, t.Any]:
    who = {"group": subject[len(GROUP) :]} if subject.startswith(GROUP) else {"user": subject}
    return {
        **who,
        "entity": _name(agent, entity),
        "permissions": sorted(name for name in names if not name.startswith(ROLE)),
        "roles": sorted(name[len(ROLE) :] for name in names if name.startswith(ROLE)),
    }


def _name(agent: Agent, entity: str) -> str:
    """What people call an entity."""
    if entity == EVERYWHERE:
        return f"{agent.node}/{wire.ALL}"
    vm = agent.vms.get(jids.node(entity))
    return jids.node(entity) if vm is None else vm.name


def _refuse_unknown(agent: Agent, entity: str, names: t.Collection[str]) -> None:
    kind = "hypervisor" if entity == jids.bare(agent.jid) else "vm"
    known = NAMES if entity == EVERYWHERE else frozenset(KINDS[kind])
    unknown = sorted(name for name in names if not name.startswith(ROLE) and name not in known)
    if unknown:
        raise granting.NotGrantable(f"there is no permission '{unknown[0]}' on {_name(agent, entity)}")


# Reading


def _refuse_others(found: t.Mapping[str, t.Any], known: set[str]) -> None:
    unknown = sorted(set(found) - known)
    if unknown:
        raise errors.MalformedRequest(f"'{unknown[0]:.100}' is not known; there are {', '.join(sorted(known))}")


def _list(declared: t.Mapping[str, t.Any], key: str) -> list[t.Any]:
    value = declared.get(key, [])
    if not isinstance(value, list):
        raise errors.MalformedRequest(f"'{key}' must be a list")
    return value


def _texts(value: t.Any, where: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(one, str) and len(one) <= _LONGEST for one in value):
        raise errors.MalformedRequest(f"'{where}' must be a list of words")
    return value


def _named(declared: t.Mapping[str, t.Any], key: str) -> dict[str, Names | None]:
    """Roles or groups; None: it shall not be."""
    value = declared.get(key, {})
    if not isinstance(value, dict):
        raise errors.MalformedRequest(f"'{key}' must be an object")
    found: dict[str, Names | None] = {}
    for name, words in value.items():
        if words is None:
            found[name] = None
            continue
        found[name] = frozenset(_texts(words, f"{key}.{name}"))
        (granting.role if key == "roles" else granting.group)(name, found[name])
    return found


def _row(row: t.Any) -> tuple[str, list[str], list[str]]:
    """(subject, selectors, names)"""
    if not isinstance(row, dict) or not isinstance(row.get("subject"), str):
        raise errors.MalformedRequest("each of 'grants' must be an object with a 'subject'")
    _refuse_others(row, {"subject", "entities", "names"})
    names = _texts(row.get("names"), "names")
    # As it will be stored; the entity does not matter for that.
    subject = granting.grant(EVERYWHERE, row["subject"], "all").subject
    return subject, _texts(row.get("entities"), "entities"), names
