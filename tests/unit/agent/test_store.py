# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The agent's database."""

from __future__ import annotations

import sqlite3
import stat
import time

import pytest

from archipel_agent.store import Store

JID = "11111111-2222-4333-8444-555555555555@example.org"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "hypervisor.sqlite3"


@pytest.fixture
def store(path):
    store = Store(path)
    yield store
    store.close()


def test_only_its_owner_reads_it(store, path):
    store.add(JID, "web", "secret")
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0, file


def test_a_row_outlives_the_process(store, path):
    row = store.add(JID, "web", "secret")
    assert (row.name, row.password, row.registered, row.handover_to) == ("web", "secret", False, None)
    store.change(JID, registered=True, handover_to="hv2@example.org", next_password="next")
    again = Store(path)
    assert again.rows() == [store.row(JID)]
    found = again.row(JID)
    assert (found.registered, found.handover_to, found.next_password) == (True, "hv2@example.org", "next")
    again.close()


def test_of_several_rows_all_are_kept_or_none(store, path):
    other = JID.replace("1", "2")
    store.add(JID, "web", "secret")
    with pytest.raises(sqlite3.IntegrityError):
        store.add_all([(other, "db", "secret"), (JID, "web", "another")])
    assert [row.jid for row in store.rows()] == [JID]
    kept = store.add_all([(other, "db", "secret"), (JID.replace("1", "3"), "mail", "secret")])
    again = Store(path)
    assert [row.name for row in kept] == ["db", "mail"] and again.rows() == store.rows() and len(again.rows()) == 3
    again.close()


def test_memory_and_file_say_the_same(store, path):
    other = JID.replace("1", "2")
    store.add(JID, "web", "secret", registered=True)
    store.add(other, "db", "secret")
    store.change(JID, name="www", releasing=True)
    store.begin(UUID, "clone", {"volumes": [["default", "web.qcow2"]]})
    store.begin(UUID.replace("1", "2"), "alloc")
    store.end(UUID.replace("1", "2"))
    store.remove(other)
    store.change(other, name="gone")
    again = Store(path)
    assert again.rows() == store.rows() and [row.name for row in again.rows()] == ["www"]
    assert again.row(other) is None and store.row(other) is None
    assert again.unfinished() == store.unfinished() == store.unfinished(UUID)
    assert store.unfinished(UUID)[0].details == {"volumes": [["default", "web.qcow2"]]}
    again.close()


def test_what_the_file_refuses_is_not_in_memory(store, path):
    store.add(JID, "web", "secret")
    store.begin(UUID, "clone")
    with pytest.raises(sqlite3.IntegrityError):
        store.begin(UUID, "alloc")
    with pytest.raises(sqlite3.IntegrityError):
        store.change(JID, name=None)
    assert (store.unfinished(UUID)[0].action, store.row(JID).name) == ("clone", "web")


def test_a_machine_has_one_row(store):
    store.add(JID, "web", "secret")
    with pytest.raises(sqlite3.IntegrityError):
        store.add(JID, "web", "other")


def test_remove(store):
    store.add(JID, "web", "secret")
    store.remove(JID)
    store.remove(JID)
    assert store.row(JID) is None and store.rows() == []


def test_names_are_no_statements(store):
    name = "x'; DROP TABLE virtualmachines; --"
    store.add(JID, name, "secret")
    assert store.row(JID).name == name
    with pytest.raises(ValueError, match="no such column"):
        store.change(JID, **{"name = 'x' --": "y"})


def test_passwords_are_not_shown(store):
    row = store.add(JID, "web", "hidden-password")
    store.change(JID, next_password="hidden-too")
    assert "hidden" not in repr(row) + repr(store.row(JID))


def test_archipels_own_columns_are_there(store, path):
    columns = [row[1] for row in sqlite3.connect(path).execute("PRAGMA table_info(virtualmachines)")]
    assert columns[:5] == ["jid", "password", "creation_date", "comment", "name"]


def test_passwords_that_a_killed_server_may_come_back_with(store):
    store.add(JID, "web", "third")
    store.retire(JID, "first")
    store.retire(JID, "second")
    assert store.former(JID) == ["second", "first"]
    assert store.removed() == []
    store.retire(JID, "third", removed=True)
    assert store.removed() == [], "it is managed"
    store.remove(JID)
    assert store.removed() == [(JID, "third")]
    store.settle(JID)
    assert (store.former(JID), store.removed()) == ([], [])


def test_former_passwords_are_forgotten_after_a_while(store, monkeypatch):
    store.retire(JID, "old", removed=True)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 61)
    store.retire(JID, "new")
    assert store.former(JID) == ["new"]


UUID = "11111111-2222-4333-8444-555555555555"


def test_what_a_peer_announced_is_expected_from_that_peer_until_it_has_come(store, path):
    store.expect(UUID, "hv2")
    store.close()
    again = Store(path)
    assert again.expects(UUID, "hv2")
    assert not again.expects(UUID, "hv3") and not again.expects(UUID.replace("1", "2"), "hv2")
    again.expect(UUID, "hv3")
    assert again.expects(UUID, "hv3") and not again.expects(UUID, "hv2"), "it is to come from the last one that said so"
    again.expect_no_more(UUID)
    assert not again.expects(UUID, "hv3")
    again.close()


def test_announcements_do_not_fill_the_disk(store, monkeypatch):
    monkeypatch.setattr("archipel_agent.store._EXPECTED", 3)
    for number in range(10):
        store.expect(str(number), "hv2")
    assert [number for number in range(10) if store.expects(str(number), "hv2")] == [7, 8, 9]


def test_volumes_that_were_begun_are_remembered_until_the_definition_tells_of_them(tmp_path):
    begun = Store(tmp_path / "db")
    for name in ("a", "b", "a"):
        begun.begin_volume("one", "default", name)
    begun.begin_volume("two", "default", "c")
    begun.forget_volume("one", "default", "b")
    begun.close()
    again = Store(tmp_path / "db")
    assert (again.volumes("one"), again.volumes("two"), again.volumes("three")) == (
        [("default", "a")],
        [("default", "c")],
        [],
    )
    again.forget_volumes("one")
    assert (again.volumes("one"), Store(tmp_path / "db").volumes("one")) == ([], [])
