# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What pushes remember over a death of the agent."""

from __future__ import annotations

import stat
import time

import pytest

from archipel_agent.outbox import Outbox, Told

WEB, HOST = "11111111-2222-4333-8444-555555555555@example.org", "hv1@example.org"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "pushes.sqlite3"


@pytest.fixture
def outbox(path):
    outbox = Outbox(path)
    yield outbox
    outbox.close()


def test_only_its_owner_reads_it(outbox, path):
    outbox.make(WEB, "events", "x")
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0, file


def test_what_is_not_delivered_comes_back_in_its_order(outbox, path):
    entries = [(WEB, "1", "<a/>"), (WEB, "2", "<b/>"), (HOST, "1", "<a/>")]
    first, second, there = outbox.add(entries, {WEB: Told(1, "x")})
    outbox.done(there)
    again = Outbox(path)
    assert again.items() == {WEB: [first, second]}
    assert again.all_told() == {WEB: Told(1, "x")}


def test_a_push_and_what_it_tells_are_kept_together(outbox):
    with pytest.raises(Exception, match="NOT NULL"):
        outbox.add([(WEB, "1", "<a/>"), (WEB, None, "<b/>")], {WEB: Told(1, "x")})
    assert outbox.items() == {} and outbox.all_told() == {}


def test_its_log_begins_anew_and_nothing_is_lost(outbox, path):
    log, kept, number = path.with_name(path.name + "-wal"), [], 0
    deadline = time.monotonic() + 120
    # The fourth number of its header counts its beginnings (https://sqlite.org/fileformat2.html#walformat).
    while log.read_bytes()[12:16] == bytes(4) and time.monotonic() < deadline:
        for dummy in range(100):
            one, other = outbox.add([(WEB, f"{number}", "<a/>"), (WEB, f"{number}-done", "<a/>")], {WEB: Told(1, "x")})
            outbox.done(other)
            kept.append(one)
            number += 1
    assert log.read_bytes()[12:16] != bytes(4)
    again = Outbox(path)
    assert again.items() == {WEB: kept}
    again.close()


def test_forgetting_leaves_nothing_of_one_and_all_of_others(outbox):
    for jid in (WEB, HOST):
        outbox.add([(jid, "1", "<a/>")], {jid: Told(None, "")})
        outbox.make(jid, "events", "x")
    assert outbox.known() == {WEB, HOST}
    outbox.forget(WEB)
    assert outbox.known() == {HOST}
    assert outbox.all_made() == {(HOST, "events"): "x"}
    outbox.unmake(HOST, "events")
    assert outbox.all_made() == {}
