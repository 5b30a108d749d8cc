# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who may wait does so while there is work, and not for ever."""

from __future__ import annotations

import asyncio

from archipel_agent import calm


def test_without_work_nobody_waits(monkeypatch):
    monkeypatch.setattr(calm, "PATIENCE", 3600.0)
    asyncio.run(calm.Calm().wait(asyncio.Event()))


def test_it_is_calm_when_all_work_is_done_and_none_follows(monkeypatch):
    monkeypatch.setattr(calm, "PATIENCE", 3600.0)
    found = []

    async def scenario():
        state = calm.Calm()
        with state.work():
            waiting = asyncio.create_task(state.wait(asyncio.Event()))
            with state.work():
                await asyncio.sleep(0)
            # Not calm yet: the outer work goes on.
            await asyncio.sleep(calm._PAUSE * 2)
            found.append(waiting.done())
        with state.work():
            # The next one has followed at once.
            await asyncio.sleep(calm._PAUSE * 2)
            found.append(waiting.done())
        await waiting
        found.append(waiting.done())

    asyncio.run(scenario())
    assert found == [False, False, True]


def test_nobody_waits_for_ever(monkeypatch):
    monkeypatch.setattr(calm, "PATIENCE", 0.01)

    async def scenario():
        state = calm.Calm()
        with state.work():
            await state.wait(asyncio.Event())

    asyncio.run(scenario())


def test_who_is_needed_waits_no_longer(monkeypatch):
    monkeypatch.setattr(calm, "PATIENCE", 3600.0)

    async def scenario():
        state, needed = calm.Calm(), asyncio.Event()
        with state.work():
            waiting = asyncio.create_task(state.wait(needed))
            needed.set()
            await waiting

    asyncio.run(scenario())
