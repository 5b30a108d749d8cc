# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Grants, roles and groups as they are stored, and what they amount to.

A grant is three words: on which entity, to whom, what. Nothing in here decides; permissions.py does.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import typing as t

from archipel_protocol import grants as wire

from . import database

# In the place of an entity's bare JID: the hypervisor and all its virtual machines, also those to come.
EVERYWHERE = "*"
# Before the name of a group in the place of a bare JID, and of a role in that of a permission: neither of the two has a
# colon (RFC 7622, 3.3.1).
GROUP = wire.GROUP
ROLE = wire.ROLE

Names = t.FrozenSet[str]
Effective = t.Mapping[str, t.Mapping[str, Names]]  # permissions by bare JID and entity


class Grant(t.NamedTuple):
    """``subject`` is a bare JID or GROUP + name, ``name`` a permission or ROLE + name."""

    entity: str
    subject: str
    name: str


@dataclasses.dataclass(frozen=True)
class Table:
    """All that is stored. A grant may name a role or a group that there is not: it gives nothing until there is."""

    roles: t.Mapping[str, Names] = dataclasses.field(default_factory=dict)  # permissions
    groups: t.Mapping[str, Names] = dataclasses.field(default_factory=dict)  # bare JIDs
    grants: frozenset[Grant] = frozenset()

    def effective(self) -> Effective:
        """Who has which permission where, roles and groups resolved."""
        found: dict[str, dict[str, set[str]]] = {}
        for entity, subject, name in self.grants:
            given = self.roles.get(name[len(ROLE) :], frozenset()) if name.startswith(ROLE) else frozenset((name,))
            grouped = subject.startswith(GROUP)
            users = self.groups.get(subject[len(GROUP) :], frozenset()) if grouped else frozenset((subject,))
            for user in users if given else ():
                found.setdefault(user, {}).setdefault(entity, set()).update(given)
        return {user: {entity: frozenset(names) for entity, names in at.items()} for user, at in found.items()}

    def of(self, entity: str) -> frozenset[Grant]:
        """The grants on one entity."""
        return frozenset(grant for grant in self.grants if grant.entity == entity)


_SCHEMA = """
CREATE TABLE IF NOT EXISTS roles (name TEXT PRIMARY KEY, permissions TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS user_groups (name TEXT PRIMARY KEY, members TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS grants (
    entity TEXT NOT NULL, subject TEXT NOT NULL, name TEXT NOT NULL, PRIMARY KEY (entity, subject, name)
) WITHOUT ROWID;
"""


class Store:
    """The database of one hypervisor; a change is durable, as a whole or not at all, when save() returns."""

    def __init__(self, path: str | pathlib.Path) -> None:
        self._database = database.opened(path, _SCHEMA)

    def close(self) -> None:
        """Closes the file."""
        self._database.close()

    def load(self) -> Table:
        """What is stored."""
        return Table(
            roles=self._named("SELECT name, permissions FROM roles"),
            groups=self._named("SELECT name, members FROM user_groups"),
            grants=frozenset(map(Grant._make, self._database.execute("SELECT entity, subject, name FROM grants"))),
        )

    def save(self, before: Table, after: Table) -> None:
        """Makes ``after`` of ``before``."""
        with self._database:
            self._database.execute("BEGIN IMMEDIATE")
            if before.roles != after.roles:
                self._database.execute("DELETE FROM roles")
                self._database.executemany("INSERT INTO roles VALUES (?, ?)", _rows(after.roles))
            if before.groups != after.groups:
                self._database.execute("DELETE FROM user_groups")
                self._database.executemany("INSERT INTO user_groups VALUES (?, ?)", _rows(after.groups))
            gone = "DELETE FROM grants WHERE entity = ? AND subject = ? AND name = ?"
            self._database.executemany(gone, before.grants - after.grants)
            self._database.executemany("INSERT INTO grants VALUES (?, ?, ?)", after.grants - before.grants)

    def _named(self, query: str) -> dict[str, Names]:
        return {name: frozenset(json.loads(values)) for name, values in self._database.execute(query)}


def _rows(named: t.Mapping[str, Names]) -> list[tuple[str, str]]:
    return [(name, json.dumps(sorted(values))) for name, values in named.items()]
