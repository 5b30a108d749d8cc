# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who may do what."""

from __future__ import annotations

import pytest

from archipel_agent.grants import EVERYWHERE, Grant, Store, Table
from archipel_agent.permissions import HOST_ACCESS, NAMES, PEER, PRESENCE, Permissions

HYPERVISOR = "hv1@example.org"
WEB = "11111111-2222-4333-8444-555555555555@example.org"
DB = "22222222-2222-4333-8444-555555555555@example.org"
ALICE, BOB = "alice@example.org", "bob@example.org"

CENTRE = Permissions(
    root_admins=frozenset(["admin@example.org"]),
    grants={"robot@example.org": frozenset(["all"]), "ops@example.org": frozenset(["info", "create"])},
    peers=frozenset(["hv2@example.org"]),
)


@pytest.mark.parametrize(
    "sender, permission, permitted",
    [
        ("admin@example.org/phone", "destroy", True),
        ("admin@example.org", HOST_ACCESS, True),
        ("ADMIN@example.org/phone", "destroy", True),
        ("robot@example.org/x", "destroy", True),
        ("robot@example.org/x", HOST_ACCESS, False),
        ("ops@example.org/x", "create", True),
        ("ops@example.org/x", "destroy", False),
        ("ops@example.org.evil.org/x", "create", False),
        ("stranger@example.org/x", "info", False),
        ("example.org", "info", False),
        ("", "info", False),
        ("hv2@example.org/hv2", PEER, True),
        ("hv2@example.org/hv2", "info", False),
        ("admin@example.org/phone", PEER, False),
        ("robot@example.org/x", PEER, False),
    ],
)
def test_permits(sender, permission, permitted):
    for entity in (HYPERVISOR, WEB, DB):
        assert CENTRE.permits(sender, permission, entity) is permitted


def test_nobody_may_do_anything_by_default():
    assert not any(Permissions().permits("somebody@example.org/x", name, WEB) for name in (*NAMES, PEER))


def test_what_peers_may_do_cannot_be_granted():
    assert PEER not in NAMES


TABLE = Table(
    roles={"operator": frozenset(["create", "shutdown"]), "viewer": frozenset(["info", PRESENCE])},
    groups={"ops": frozenset([ALICE, BOB])},
    grants=frozenset(
        [
            Grant(WEB, "group:ops", "role:operator"),
            Grant(WEB, ALICE, "info"),
            Grant(HYPERVISOR, ALICE, "rostervm"),
            Grant(EVERYWHERE, BOB, "role:viewer"),
            Grant(EVERYWHERE, "carol@example.org", "all"),
            Grant(DB, BOB, HOST_ACCESS),
            Grant(DB, "group:unknown", "destroy"),
            Grant(DB, ALICE, "role:unknown"),
        ]
    ),
)


@pytest.fixture
def stored(tmp_path):
    store = Store(tmp_path / "permissions.sqlite3")
    store.save(Table(), TABLE)
    store.close()
    store = Store(tmp_path / "permissions.sqlite3")
    assert (tmp_path / "permissions.sqlite3").stat().st_mode & 0o777 == 0o600
    yield Permissions(frozenset(["admin@example.org"]), store=store)
    store.close()


@pytest.mark.parametrize(
    "sender, entity, held",
    [
        (ALICE, WEB, {"create", "shutdown", "info", "permission_getown"}),
        (ALICE, HYPERVISOR, {"rostervm", "permission_getown"}),
        (ALICE, DB, set()),
        (BOB, WEB, {"create", "shutdown", "info", "presence", "permission_getown"}),
        (BOB, HYPERVISOR, {"info", "presence", "permission_getown"}),
        (BOB, DB, {"info", "presence", "host_access", "permission_getown"}),
        ("carol@example.org", DB, NAMES - {HOST_ACCESS}),
        ("admin@example.org", DB, NAMES),
        ("group:ops", WEB, set()),
        ("role:operator", WEB, set()),
    ],
)
def test_what_is_stored_counts_where_it_says(stored, sender, entity, held):
    assert stored.held(sender + "/x", entity) == held


def test_holders_are_all_who_are_permitted(stored):
    assert stored.holders(PRESENCE, WEB) == {"admin@example.org", BOB, "carol@example.org"}
    assert stored.holders("shutdown", WEB) == {"admin@example.org", ALICE, BOB, "carol@example.org"}
    assert stored.holders(HOST_ACCESS, WEB) == {"admin@example.org"}
    assert CENTRE.holders(PEER, HYPERVISOR) == {"hv2@example.org"}
    assert CENTRE.holders("info", WEB) == {"admin@example.org", "robot@example.org", "ops@example.org"}


def test_who_listens_hears_where_holders_changed(stored):
    heard = []
    stored.on_change(heard.append)
    stored.grant(ALICE + "/phone", DB, ["info"])
    stored.grant(ALICE, DB, ["info"])  # again
    assert stored.permits(ALICE, "info", DB)
    stored.forget(WEB)
    assert not stored.permits(ALICE, "shutdown", WEB)
    stored.configure(frozenset(), {BOB: frozenset(["destroy"])}, frozenset())
    assert not stored.permits("admin@example.org", "info", WEB) and stored.permits(BOB, "destroy", WEB)
    assert heard == [{DB}, {WEB}, {EVERYWHERE}]


def test_a_listener_that_fails_does_not_undo_a_grant(stored):
    def broken(entities):
        raise KeyError

    heard = []
    stored.on_change(broken)
    stored.on_change(heard.append)
    stored.grant(ALICE, DB, ["info"])
    assert stored.permits(ALICE, "info", DB) and heard == [{DB}]


def test_grants_outlive_the_process_and_those_on_what_is_gone_do_not(stored, tmp_path):
    stored.grant(ALICE, WEB, ["destroy"])
    stored.keep_only({HYPERVISOR, DB})
    stored.close()
    again = Store(tmp_path / "permissions.sqlite3")
    table = again.load()
    again.close()
    assert table == stored.table
    assert {grant.entity for grant in table.grants} == {HYPERVISOR, DB, EVERYWHERE}
    assert (table.roles, table.groups) == (TABLE.roles, TABLE.groups)
