# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who may do what: the one answer, asked by dispatch alone.

Root administrators, peers and the grants of the configuration count on every entity of this hypervisor; what is stored
(grants.py) on the entity that it names.
"""

from __future__ import annotations

import logging
import typing as t

from archipel_protocol import jids
from archipel_protocol.permissions import ALL, HOST_ACCESS, NAMES, PERMISSION_GETOWN, PRESENCE

from .grants import EVERYWHERE, Grant, Names, Store, Table

__all__ = ["ALL", "EVERYWHERE", "HOST_ACCESS", "NAMES", "PEER", "PRESENCE", "Permissions"]

log = logging.getLogger(__name__)

# What the configured peers of this hypervisor may do, and nobody else: it can be neither granted nor inherited.
PEER = "peer"

_NOTHING: Names = frozenset()
# Called after a change with the bare JIDs of the entities whose holders changed; EVERYWHERE among them: all of them.
Callback = t.Callable[[t.FrozenSet[str]], None]


class Permissions:
    """Every JID is bare and exact. A JID that is named nowhere may do nothing.

    ``grants`` are those of the configuration: permissions by JID.
    """

    def __init__(
        self,
        root_admins: frozenset[str] = frozenset(),
        grants: t.Mapping[str, frozenset[str]] | None = None,
        peers: frozenset[str] = frozenset(),
        store: Store | None = None,
    ) -> None:
        self._store = store
        self._callbacks: list[Callback] = []
        self.table = Table() if store is None else store.load()
        self._effective = self.table.effective()
        self._configured(root_admins, grants or {}, peers)

    # Questions

    def permits(self, sender: str, permission: str, entity: str) -> bool:
        """Whether ``sender``, any JID as the server stamped it, has ``permission`` on the entity of that bare JID."""
        bare = jids.bare(sender)
        if permission == PEER:
            return bare in self._peers
        return bare in self._root_admins or _contains(self._granted(bare, entity), permission)

    def held(self, sender: str, entity: str, names: t.Iterable[str] = NAMES) -> frozenset[str]:
        """Those of ``names`` that ``sender`` has on an entity."""
        return frozenset(name for name in names if self.permits(sender, name, entity))

    def holders(self, permission: str, entity: str) -> frozenset[str]:
        """The bare JIDs of all who have ``permission`` on an entity, whatever gives it to them."""
        if permission == PEER:
            return self._peers
        known = (*self._configuration, *self._effective)
        return self._root_admins.union(who for who in known if _contains(self._granted(who, entity), permission))

    def _granted(self, bare: str, entity: str) -> Names:
        stored = self._effective.get(bare)
        configured = self._configuration.get(bare, _NOTHING)
        if stored is None:
            return configured
        return configured | stored.get(EVERYWHERE, _NOTHING) | stored.get(entity, _NOTHING)

    # Changes

    def on_change(self, callback: Callback) -> None:
        """Has ``callback`` called with the entities whose holders have changed, each time they have."""
        self._callbacks.append(callback)

    def configure(
        self, root_admins: frozenset[str], grants: t.Mapping[str, frozenset[str]], peers: frozenset[str]
    ) -> None:
        """Takes over what the configuration says now."""
        self._configured(root_admins, grants, peers)
        self._tell(frozenset((EVERYWHERE,)))

    def grant(self, user: str, entity: str, names: t.Iterable[str]) -> None:
        """Grants without asking who may: for what the agent itself decides, as that who makes a machine may use it."""
        added = frozenset(Grant(entity, jids.bare(user), name) for name in names)
        self.replace(Table(self.table.roles, self.table.groups, self.table.grants | added))

    def forget(self, entity: str) -> None:
        """Drops all grants on an entity."""
        self.replace(Table(self.table.roles, self.table.groups, self.table.grants - self.table.of(entity)))

    def keep_only(self, entities: t.Container[str]) -> None:
        """Drops the grants on all entities but these; those on EVERYWHERE stay."""
        kept = (one for one in self.table.grants if one.entity == EVERYWHERE or one.entity in entities)
        self.replace(Table(self.table.roles, self.table.groups, frozenset(kept)))

    def replace(self, table: Table) -> None:
        """Stores ``table`` as what is granted from now on, and tells."""
        if table == self.table:
            return
        if self._store is not None:
            self._store.save(self.table, table)
        before, self.table = self._effective, table
        self._effective = table.effective()
        changed = {entity for dummy, entity, dummy2 in differences(before, self._effective)}
        if changed:
            self._tell(frozenset(changed))

    def close(self) -> None:
        """Closes the store."""
        if self._store is not None:
            self._store.close()

    def _configured(
        self, root_admins: frozenset[str], grants: t.Mapping[str, frozenset[str]], peers: frozenset[str]
    ) -> None:
        self._root_admins, self._configuration, self._peers = root_admins, dict(grants), peers

    def _tell(self, entities: frozenset[str]) -> None:
        for callback in self._callbacks:
            try:
                callback(entities)
            except Exception:
                # The grants are stored; who listens must not make that look undone.
                log.exception("%s failed after a change of grants", callback)


def _contains(granted: Names, permission: str) -> bool:
    if permission == PERMISSION_GETOWN:
        return bool(granted)
    return permission in granted or (ALL in granted and permission != HOST_ACCESS)


def differences(
    before: t.Mapping[str, t.Mapping[str, Names]], after: t.Mapping[str, t.Mapping[str, Names]]
) -> t.Iterator[tuple[str, str, str]]:
    """(bare JID, entity, permission) of all that somebody gains or loses."""
    for user in {*before, *after}:
        old, new = before.get(user, {}), after.get(user, {})
        for entity in {*old, *new}:
            for name in old.get(entity, _NOTHING) ^ new.get(entity, _NOTHING):
                yield user, entity, name
