# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who may do what: the one answer, asked by dispatch alone."""

from __future__ import annotations

import dataclasses
import typing as t

from archipel_protocol import jids
from archipel_protocol.permissions import ALL, HOST_ACCESS, NAMES, PRESENCE

__all__ = ["ALL", "HOST_ACCESS", "NAMES", "PEER", "PRESENCE", "Permissions"]

# What the configured peers of this hypervisor may do, and nobody else: it can be neither granted nor inherited.
PEER = "peer"


@dataclasses.dataclass(frozen=True)
class Permissions:
    """Grants from the configuration; every JID is bare and exact.

    ``grants`` maps a JID to its permissions. A JID that is named nowhere has none.
    """

    root_admins: frozenset[str] = frozenset()
    grants: t.Mapping[str, frozenset[str]] = dataclasses.field(default_factory=dict)
    peers: frozenset[str] = frozenset()

    def permits(self, sender: str, permission: str) -> bool:
        """Whether ``sender``, any JID as the server stamped it, has ``permission``."""
        bare = jids.bare(sender)
        if permission == PEER:
            return bare in self.peers
        if bare in self.root_admins:
            return True
        granted = self.grants.get(bare, frozenset())
        return permission in granted or (ALL in granted and permission != HOST_ACCESS)
