# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who may grant what. Each refusal is a way to get more than one has."""

from __future__ import annotations

import pytest

from archipel_agent import granting
from archipel_agent.grants import EVERYWHERE, Grant, Table
from archipel_agent.permissions import Permissions
from archipel_protocol import errors

WEB, DB, HYPERVISOR = "web@example.org", "db@example.org", "hv1@example.org"
MALLORY, BOB = "mallory@example.org", "bob@example.org"
OWNER, ROBOT, ADMIN = "owner@example.org", "robot@example.org", "admin@example.org"

BEFORE = Table(
    roles={"operator": frozenset(["create", "destroy"]), "viewer": frozenset(["info"])},
    groups={"ops": frozenset([BOB])},
    grants=frozenset(
        [
            Grant(WEB, MALLORY, "permission_set"),
            Grant(WEB, MALLORY, "info"),
            Grant(HYPERVISOR, MALLORY, "permission_set"),
            Grant(WEB, OWNER, "all"),
            Grant(WEB, BOB, "create"),
            Grant(WEB, "group:ops", "role:operator"),
            Grant(WEB, BOB, "host_access"),
        ]
    ),
)


def permissions():
    stored = Permissions(frozenset([ADMIN]), {ROBOT: frozenset(["all"])})
    stored.replace(BEFORE)
    return stored


def after(add=(), remove=(), roles=None, groups=None):
    return Table(
        BEFORE.roles if roles is None else roles,
        BEFORE.groups if groups is None else groups,
        BEFORE.grants - set(remove) | set(add),
    )


MORE = {"operator": frozenset(["create", "destroy", "define"]), "viewer": frozenset(["info"])}
JOINED = {"ops": frozenset([BOB, MALLORY])}


@pytest.mark.parametrize(
    "sender, table",
    [
        (MALLORY, after([Grant(WEB, BOB, "info")])),
        (MALLORY, after(remove=[Grant(WEB, MALLORY, "permission_set"), Grant(WEB, MALLORY, "info")])),
        (OWNER, after([Grant(WEB, BOB, "destroy"), Grant(WEB, MALLORY, "all"), Grant(WEB, BOB, "role:operator")])),
        (OWNER, after([Grant(WEB, "group:ops", "all")], [Grant(WEB, BOB, "create")])),
        (BOB, after([Grant(WEB, ADMIN, "host_access")])),
        (ROBOT, after(roles=MORE, groups=JOINED)),
        (ROBOT, after([Grant(EVERYWHERE, BOB, "all")])),
        (ADMIN, after([Grant(EVERYWHERE, BOB, "host_access")], roles=MORE, groups=JOINED)),
    ],
)
def test_what_one_has_can_be_handed_on(sender, table):
    granting.check(permissions(), sender + "/x", table)


@pytest.mark.parametrize(
    "sender, table",
    [
        # What one does not have oneself: for oneself, for a friend, for a group one may join, by way of a role.
        (MALLORY, after([Grant(WEB, MALLORY, "destroy")])),
        (MALLORY, after([Grant(WEB, MALLORY, "all")])),
        (MALLORY, after([Grant(WEB, BOB, "destroy")])),
        (MALLORY, after([Grant(WEB, "group:ops", "destroy")])),
        (MALLORY, after([Grant(WEB, MALLORY, "role:operator")])),
        # A role that holds no more than one has may grow.
        (MALLORY, after([Grant(WEB, MALLORY, "role:viewer")])),
        # A role or a group of one's own, or somebody else's.
        (MALLORY, after(roles={**BEFORE.roles, "mine": frozenset(["info"])})),
        (MALLORY, after(groups=JOINED)),
        (OWNER, after(groups=JOINED)),
        (OWNER, after(roles=MORE)),
        # Elsewhere than where one has it: from a machine to another, to its hypervisor, to all, and back.
        (MALLORY, after([Grant(DB, MALLORY, "info")])),
        (OWNER, after([Grant(DB, OWNER, "all")])),
        (OWNER, after([Grant(HYPERVISOR, OWNER, "rostervm")])),
        (OWNER, after([Grant(EVERYWHERE, OWNER, "info")])),
        (MALLORY, after([Grant(EVERYWHERE, MALLORY, "permission_set")])),
        # host_access: all does not contain it, not even to take it away.
        (OWNER, after([Grant(WEB, OWNER, "host_access")])),
        (ROBOT, after([Grant(WEB, ROBOT, "host_access")])),
        (ROBOT, after(remove=[Grant(WEB, BOB, "host_access")])),
        # What others have and oneself has not is not one's own to take away.
        (MALLORY, after(remove=[Grant(WEB, BOB, "create")])),
        (MALLORY, after(remove=[Grant(WEB, OWNER, "all")])),
        (MALLORY, after(remove=[Grant(WEB, "group:ops", "role:operator")])),
        ("stranger@example.org", after([Grant(WEB, BOB, "info")])),
    ],
)
def test_nobody_gives_or_takes_what_they_lack(sender, table):
    with pytest.raises(errors.PermissionDenied, match=f"{sender} lacks '"):
        granting.check(permissions(), sender + "/x", table)


def test_a_right_on_one_entity_is_none_on_another():
    granting.check(permissions(), MALLORY, after([Grant(WEB, BOB, "info")]), "permission_set")
    with pytest.raises(errors.PermissionDenied, match="lacks 'permission_set' on web@"):
        granting.check(permissions(), BOB, after([Grant(WEB, MALLORY, "create")]), "permission_set")


@pytest.mark.parametrize(
    "table, told",
    [
        (after([Grant(WEB, BOB, "role:unheard")]), "there is no role 'unheard'"),
        (after([Grant(WEB, "group:unheard", "info")]), "there is no group 'unheard'"),
        (after(Grant(WEB, f"u{i}@example.org", "info") for i in range(50001)), "are too many; at most 50000"),
    ],
)
def test_not_even_an_administrator_grants_what_means_nothing(table, told):
    with pytest.raises(granting.NotGrantable, match=told) as raised:
        granting.check(permissions(), ADMIN, table)
    assert raised.value.code == errors.CODE_PERMISSION_SET


@pytest.mark.parametrize(
    "make, told",
    [
        (lambda: granting.grant(WEB, "group:ops", "host_access"), "to users by name, not to a group"),
        (lambda: granting.role("power", frozenset(["host_access"])), "to users by name, not in a role"),
        (lambda: granting.role("power", frozenset(["peer"])), "no permission 'peer'"),
        (lambda: granting.role("Power", frozenset()), "cannot name a role"),
        (lambda: granting.group("a b", frozenset()), "cannot name a group"),
        (lambda: granting.group("ops", frozenset(["*"])), "not the JID of an account"),
        (lambda: granting.grant(WEB, "*", "info"), "not the JID of an account"),
        (lambda: granting.grant(WEB, "example.org", "info"), "not the JID of an account"),
        (lambda: granting.grant(WEB, "role:x@example.org", "info"), "not the JID of an account"),
        (lambda: granting.grant(WEB, "group:", "info"), "name of a group"),
        (lambda: granting.grant(WEB, BOB, "role:"), "name of a role"),
        (lambda: granting.grant(WEB, BOB, "peer"), "no permission 'peer'"),
        (lambda: granting.grant(WEB, BOB, ""), "no permission ''"),
        (lambda: granting.grant(WEB, BOB, "rostervm", frozenset(["info"])), "no permission 'rostervm' on web@"),
    ],
)
def test_what_cannot_be_stored(make, told):
    with pytest.raises(granting.NotGrantable, match=told):
        make()


def test_a_jid_is_stored_bare_and_in_lower_case():
    assert granting.grant(WEB, "Bob@Example.org/phone", "info") == Grant(WEB, BOB, "info")


def test_what_comes_with_a_machine_is_about_that_machine_alone():
    stored = permissions()
    granting.adopt(
        stored,
        DB,
        [
            [BOB, "info"],
            ["group:ops", "role:operator"],
            [MALLORY, "role:unheard"],
            [MALLORY, "host_access"],
            [MALLORY, "a permission of tomorrow"],
            ["*", "info"],
            [EVERYWHERE, MALLORY, "all"],
            ["x"],
            7,
            None,
        ],
    )
    assert stored.table.of(DB) == {
        Grant(DB, BOB, "info"),
        Grant(DB, "group:ops", "role:operator"),
        Grant(DB, MALLORY, "role:unheard"),
    }
    assert stored.table.grants - stored.table.of(DB) == BEFORE.grants
    for nothing in (None, {}, "grants", 3):
        granting.adopt(stored, DB, nothing)
        assert stored.table.of(DB) == set()


def test_host_access_stays_with_the_host():
    assert granting.travelling(permissions(), WEB) == [
        [BOB, "create"],
        ["group:ops", "role:operator"],
        [MALLORY, "info"],
        [MALLORY, "permission_set"],
        [OWNER, "all"],
    ]
