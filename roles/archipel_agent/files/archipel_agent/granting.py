# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What may be granted, and who may grant it. docs/guides/permissions.md tells it to people.

1. A permission is given and taken away by who has it on that entity.
2. A role is given and taken away by who has ``all`` on that entity, because a role may grow later.
3. Roles and groups are defined by who has ``all`` on all entities, because they count there.
4. ``host_access`` is given to a user by name: no role holds it, and no group has it.
"""

from __future__ import annotations

import logging
import re
import typing as t

from archipel_protocol import errors, jids
from archipel_protocol.permissions import ALL, HOST_ACCESS, NAMES

from .grants import EVERYWHERE, GROUP, ROLE, Grant, Table
from .permissions import Permissions

log = logging.getLogger(__name__)

# Of a role or a group.
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}\Z")
# What one agent keeps: it looks at all of them after each change.
_MOST = 50000


class NotGrantable(errors.ArchipelError):
    """There is no such thing, or it cannot be granted."""

    code = errors.CODE_PERMISSION_SET


def grant(entity: str, subject: str, name: str, known: frozenset[str] = NAMES) -> Grant:
    """A grant that may be stored; raises NotGrantable. ``known`` are the permissions of such an entity."""
    if not subject.startswith(GROUP):
        subject = user(subject)
    elif not _NAME.match(subject[len(GROUP) :]):
        raise NotGrantable(f"'{subject}' is not {GROUP}<name of a group>")
    elif name == HOST_ACCESS:
        raise NotGrantable(f"{HOST_ACCESS} is granted to users by name, not to a group")
    if name.startswith(ROLE):
        if not _NAME.match(name[len(ROLE) :]):
            raise NotGrantable(f"'{name}' is not {ROLE}<name of a role>")
    elif name not in known:
        raise NotGrantable(f"there is no permission '{name}' on {entity}")
    return Grant(entity, subject, name)


def user(jid: str, code: int = NotGrantable.code) -> str:
    """The bare JID that is stored; raises NotGrantable."""
    bare = jids.bare(jid)
    if not jids.is_account(bare):
        raise NotGrantable(f"'{jid}' is not the JID of an account, like alice@example.org", code)
    return bare


def role(name: str, permissions: frozenset[str]) -> None:
    """Raises NotGrantable where there cannot be such a role."""
    _refuse_name("role", name)
    if HOST_ACCESS in permissions:
        raise NotGrantable(f"role '{name}': {HOST_ACCESS} is granted to users by name, not in a role")
    unknown = sorted(permissions - NAMES)
    if unknown:
        raise NotGrantable(f"role '{name}': there is no permission '{unknown[0]}'")


def group(name: str, members: frozenset[str]) -> None:
    """Raises NotGrantable where there cannot be such a group."""
    _refuse_name("group", name)
    for member in members:
        user(member)


def _refuse_name(kind: str, name: str) -> None:
    if not _NAME.match(name):
        message = f"'{name}' cannot name a {kind}: lower case, digits and _ . - are taken, at most 64 of them"
        raise NotGrantable(message)


def check(permissions: Permissions, sender: str, after: Table, right: str | None = None) -> None:
    """Raises where ``sender`` may not make ``after`` of what is stored, or nobody may.

    ``right`` is the permission that it needs on each entity where a grant changes.
    """
    before = permissions.table
    if (before.roles, before.groups) != (after.roles, after.groups):
        _demand(permissions, sender, ALL, EVERYWHERE, "define roles and groups")
    for entity, dummy, name in sorted(before.grants ^ after.grants):
        if right is not None:
            _demand(permissions, sender, right, entity, "change grants there")
        if name.startswith(ROLE):
            _demand(permissions, sender, ALL, entity, f"give or take away '{name}'")
        else:
            _demand(permissions, sender, name, entity, "give it or take it away")
    for one in sorted(after.grants - before.grants):
        if one.name.startswith(ROLE) and one.name[len(ROLE) :] not in after.roles:
            raise NotGrantable(f"there is no role '{one.name[len(ROLE) :]}'")
        if one.subject.startswith(GROUP) and one.subject[len(GROUP) :] not in after.groups:
            raise NotGrantable(f"there is no group '{one.subject[len(GROUP) :]}'")
    if len(after.grants) > max(_MOST, len(before.grants)):
        raise NotGrantable(f"{len(after.grants)} grants are too many; at most {_MOST} are kept")


def travelling(permissions: Permissions, entity: str) -> list[list[str]]:
    """The grants that go with a machine to another hypervisor: [subject, name]; host_access is about the host."""
    return [[one.subject, one.name] for one in sorted(permissions.table.of(entity)) if one.name != HOST_ACCESS]


def adopt(permissions: Permissions, entity: str, offered: t.Any) -> None:
    """Replaces the grants on a machine by those that came with it; what cannot be granted here is left out.

    A peer speaks for grants on that machine alone, and never for host_access.
    """
    table = permissions.table
    grants = set(table.grants - table.of(entity))
    for one in offered if isinstance(offered, list) else ():
        try:
            subject, name = one
            arrived = grant(entity, str(subject), str(name))
        except (TypeError, ValueError, NotGrantable):
            log.warning("a grant came with %s that cannot be one here: %.200r", entity, one)
            continue
        if arrived.name != HOST_ACCESS and len(grants) < _MOST:
            grants.add(arrived)
    permissions.replace(Table(table.roles, table.groups, frozenset(grants)))


def _demand(permissions: Permissions, sender: str, name: str, entity: str, purpose: str) -> None:
    if not permissions.permits(sender, name, entity):
        where = "all entities" if entity == EVERYWHERE else entity
        raise errors.PermissionDenied(f"{jids.bare(sender)} lacks '{name}' on {where} and so may not {purpose}")
