# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Payloads of ``archipel:grants``: roles, groups and grants of one agent, as JSON (declaration.encode, decode)."""

from __future__ import annotations

import typing as t

PLAN = "plan"
APPLY = "apply"

# Selectors of entities, besides a hypervisor's node and a virtual machine's name or UUID: all there are, all of one
# hypervisor (<node>/all), the machines with a tag.
ALL = "all"
TAG = "tag:"
# In a subject before the name of a group, in a name before that of a role.
GROUP = "group:"
ROLE = "role:"


class Row(t.TypedDict):
    """The whole of what ``subject`` is granted on each of the entities."""

    subject: str  # a bare JID, or GROUP + name
    entities: list[str]  # selectors
    names: list[str]  # permissions, or ROLE + name


class Declaration(t.TypedDict, total=False):
    """A request. What is not named stays, but for the kinds in ``purge``: "roles", "groups", "grants"."""

    roles: dict[str, t.Optional[list[str]]]  # permissions; None: there shall be no such role
    groups: dict[str, t.Optional[list[str]]]  # bare JIDs; None: there shall be no such group
    grants: list[Row]
    purge: list[str]


class Outcome(t.TypedDict):
    """A reply. ``before`` and ``after`` hold what differs; ``unknown`` the selectors that select nothing here."""

    before: dict[str, t.Any]
    after: dict[str, t.Any]
    unknown: list[str]
