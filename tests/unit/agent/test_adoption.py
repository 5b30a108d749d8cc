# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What of Archipel 0.6 becomes ours."""

from __future__ import annotations

import sqlite3

import pytest

from archipel_agent import adoption, legacy
from archipel_agent.grants import Grant
from archipel_agent.store import ForeignDatabase, Store
from archipel_lab import archipel_06

WEB, DB = "11111111-2222-4333-8444-555555555555", "22222222-2222-4333-8444-555555555555"
HYPERVISOR = "hv1@example.org"


@pytest.fixture
def old(tmp_path):
    """0.6's state with two machines; more rows, and grants by UUID ("": the hypervisor's), may be given."""

    def make(rows=(), grants=None, domain="example.org"):
        folder, machines = tmp_path / "0.6", tmp_path / "drives"
        all_rows = [
            (f"{WEB}@{domain}", "secret-web", "2014-05-06 07:08:09", "user-imported virtual machine", "web"),
            (f"{DB.upper()}@{domain}", "secret-db", "2015-01-01 00:00:00", None, "db"),
            *rows,
        ]
        archipel_06.make(folder, machines, all_rows, grants or {})
        return legacy.read(folder, machines)

    return make


def taken(old, rows=None, adopted=(), names=None, change_domain=False):
    return adoption.adopt(old, HYPERVISOR, rows or {}, adopted, names or {}, change_domain)


def test_machines_keep_jid_date_and_comment_and_get_another_password(old):
    web, db = taken(old(), names={DB: "database"}).rows
    assert (web.jid, web.name, web.creation_date, web.comment) == (
        f"{WEB}@example.org",
        "web",
        "2014-05-06 07:08:09",
        "user-imported virtual machine",
    )
    # libvirt's name is the truth.
    assert (db.jid, db.name, db.comment) == (f"{DB}@example.org", "database", "")
    assert (web.password, web.registered) == ("secret-web", False)
    assert len(web.next_password) >= 32 and web.next_password != db.next_password


def test_another_domain_is_refused_unless_it_is_to_change(old):
    state = old(domain="old.example", grants={WEB: [("ann@old.example", "info"), ("bob@third.example", "info")]})
    with pytest.raises(legacy.LegacyError, match=r"domain old\.example, this hypervisor in example\.org"):
        taken(state)
    found = taken(state, change_domain=True)
    assert [row.jid for row in found.rows] == [f"{WEB}@example.org", f"{DB}@example.org"]
    entity = f"{WEB}@example.org"
    assert found.grants == {Grant(entity, "ann@example.org", "info"), Grant(entity, "bob@third.example", "info")}


def test_grants_are_kept_where_there_is_what_they_allow(old):
    state = old(
        grants={
            "": [("ann@example.org", "alloc"), ("ann@example.org", "health_info"), ("ann@example.org", "info")],
            WEB: [("Ann@example.org", "all"), ("ann@example.org", "all"), ("bob@example.org", "vnc_display")],
            DB: [("bob@example.org", "host_access"), ("admin", "info"), ("bob@example.org", "create")],
        }
    )
    found = taken(state)
    assert found.grants == {
        Grant(HYPERVISOR, "ann@example.org", "alloc"),
        Grant(f"{WEB}@example.org", "ann@example.org", "all"),
        Grant(f"{DB}@example.org", "bob@example.org", "create"),
    }
    assert {(one.entity.partition("@")[0], one.user, one.permission) for one in found.denied} == {
        ("hv1", "ann@example.org", "health_info"),
        # A virtual machine's, not a hypervisor's.
        ("hv1", "ann@example.org", "info"),
        (WEB, "bob@example.org", "vnc_display"),
        # 0.6 had no such permission: it is nobody's to be kept.
        (DB, "bob@example.org", "host_access"),
        (DB, "admin", "info"),
    }


def test_what_was_taken_once_is_not_taken_again(old, tmp_path):
    state = old(grants={"": [("ann@example.org", "alloc")], WEB: [("ann@example.org", "info")]})
    store = Store(tmp_path / "hypervisor.sqlite3")
    first = taken(state)
    store.adopt(first.rows, first.entities)
    # It has moved to another host since.
    store.remove(f"{WEB}@example.org")
    again = taken(state, {row.jid: row for row in store.rows()}, store.adopted())
    assert (again.rows, again.grants, again.denied, again.entities) == ((), frozenset(), (), ())
    store.close()


def test_a_machine_that_is_managed_already_keeps_its_password(old, tmp_path):
    store = Store(tmp_path / "hypervisor.sqlite3")
    row = store.add(f"{WEB}@example.org", "web", "ours")
    found = taken(old(), {row.jid: row})
    assert [one.name for one in found.rows] == ["db"]
    store.adopt(found.rows, found.entities)
    assert store.row(f"{WEB}@example.org") == row
    store.close()


def test_rows_and_marks_are_stored_together_or_not_at_all(old, tmp_path):
    store = Store(tmp_path / "hypervisor.sqlite3")
    found = taken(old())
    store.add(f"{DB}@example.org", "db", "ours")
    with pytest.raises(sqlite3.IntegrityError):
        store.adopt(found.rows, found.entities)
    assert store.row(f"{WEB}@example.org") is None and store.adopted() == frozenset()
    store.close()


def test_rows_that_are_no_machines_are_told_without_their_passwords(old):
    state = old(rows=[("hv1@example.org", "secret-x", "", "", "x"), (f"{WEB[:-1]}0@example.org", "", "", "", "y")])
    assert [one.name for one in state.machines] == ["web", "db"]
    assert len(state.ignored) == 2 and "secret" not in " ".join(state.ignored)
    assert "row 3 of " in state.ignored[0] and "hv1@example.org" in state.ignored[0]
    assert "secret" not in repr(state) and "secret" not in repr(taken(state))


@pytest.mark.parametrize("content", [b"no database at all, but long enough to be one" * 30, b""])
def test_a_file_that_is_no_database_of_0_6_is_an_error(tmp_path, content):
    (tmp_path / "hypervisor.sqlite3").write_bytes(content)
    with pytest.raises(legacy.LegacyError, match=r"hypervisor\.sqlite3 cannot be read as a database of Archipel 0\.6"):
        legacy.read(tmp_path, tmp_path)


def test_a_folder_without_databases_is_an_error(tmp_path):
    with pytest.raises(legacy.LegacyError, match="there is no .*archipel_folder_lib"):
        legacy.read(tmp_path, tmp_path)


def test_reading_leaves_the_files_as_they_are(old, tmp_path):
    old(grants={"": [("ann@example.org", "alloc")]})
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    legacy.read(tmp_path / "0.6", tmp_path / "drives")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_our_store_leaves_a_database_of_0_6_alone(old, tmp_path):
    old()
    path = tmp_path / "0.6" / "hypervisor.sqlite3"
    before = path.read_bytes()
    with pytest.raises(ForeignDatabase, match="archipel_import"):
        Store(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "text, after",
    [
        (f"{WEB}@example.org::::secret-web", ""),
        (f"{WEB.upper()}@old.example::::other", ""),
        (f"Web server\n{WEB}@example.org::::secret-web\nof sales", "Web server\n\nof sales"),
        (f"Web server {WEB}@example.org::::secret-web", "Web server"),
        (f"{WEB}@example.org::::", ""),
        (f"{WEB}@example.org::::secret-web2 x", "x"),
        ("  Web server  ", "  Web server  "),
        (f"{DB}@example.org::::secret-db", f"{DB}@example.org::::secret-db"),
        ("", ""),
    ],
)
def test_the_password_leaves_the_description_and_the_rest_stays(text, after):
    assert legacy.without_password(text, WEB, "secret-web") == after


def test_a_password_with_blanks_leaves_as_a_whole():
    assert legacy.without_password(f"a {WEB}@example.org::::two words b", WEB, "two words") == "a  b"
