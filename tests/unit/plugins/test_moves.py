# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What agents tell of migrations goes to who watches, and harms nobody where it is nonsense."""

from __future__ import annotations

import asyncio
import json
import types

import pytest
from ansible_collections.archipel.platform.plugins.module_utils import _moves
from ansible_collections.archipel.platform.plugins.module_utils._decision import Decision
from ansible_collections.archipel.platform.plugins.module_utils._progress import FILE, Progress
from ansible_collections.archipel.platform.plugins.module_utils.archipel_protocol.errors import ArchipelError

WEB = Decision("web", "1", "hv1", target="hv2")
SENT = {"jobs": [{"uuid": "1", "percent": 42, "remaining": 130 << 20}, {"uuid": "2", "percent": 1, "remaining": 1}]}


def told(tmp_path, monkeypatch, *answers, begin=lambda moves: moves.begin(WEB)) -> list:
    """(percent, detail) of the events while something is done to web, and agents answer one after the other."""
    monkeypatch.setattr(_moves, "_PAUSE", 0)
    left, works = list(answers), []

    async def asked(node, action, request):
        assert (node, action, request) == ("hv1", "progress", {"uuids": ["1"]})
        if not left:
            await asyncio.Future()
        return left.pop(0)

    async def wait():
        await asyncio.wait([asyncio.ensure_future(work()) for work in works], timeout=0.2)

    agents = types.SimpleNamespace(asked=asked, client=types.SimpleNamespace(beside=works.append))
    (tmp_path / FILE).touch()
    moves = _moves.Moves(agents, Progress(str(tmp_path)))
    begin(moves)
    asyncio.run(wait())
    found = [json.loads(line) for line in (tmp_path / FILE).read_text().splitlines()]
    assert {one["vm"] for one in found} == {"web"}
    assert len({one["action"] for one in found}) == 1
    return [(one["percent"], one["detail"]) for one in found]


def test_how_far_it_is(tmp_path, monkeypatch):
    answers = ({"jobs": []}, ArchipelError("hv1 is busy"), SENT)
    assert told(tmp_path, monkeypatch, *answers) == [(None, ""), (42, "130MiB left")]


@pytest.mark.parametrize("nonsense", [{"jobs": 1}, {"jobs": [1]}, {"jobs": [{}]}, {"jobs": [{"uuid": "1"}]}])
def test_nonsense(tmp_path, monkeypatch, nonsense):
    assert told(tmp_path, monkeypatch, nonsense) == [(None, "")]


def test_nobody_is_asked_where_nobody_watches():
    _moves.Moves(types.SimpleNamespace(), Progress()).begin(WEB)


def test_one_that_has_moved_is_not_asked_for_while_another_moves():
    moves = _moves.Moves(types.SimpleNamespace(), Progress())
    other = WEB._replace(uuid="2")
    for one in (WEB, other):
        moves.begin(one)
    moves.end("hv1", "1")
    assert {node: list(events) for node, events in moves._events.items()} == {"hv1": ["2"]}
    moves.end("hv1", "2")
    assert moves._events == {}
    moves.end("hv2", "2")


def test_a_copy_is_told_of_when_there_is_one(tmp_path, monkeypatch):
    found = told(tmp_path, monkeypatch, {"jobs": []}, SENT, begin=lambda moves: moves.begin_copy("hv1", WEB))
    assert found == [(42, "130MiB left")]
