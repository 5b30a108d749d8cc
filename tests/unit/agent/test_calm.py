# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who may wait does so while there is work, and not for ever."""

from __future__ import annotations

import asyncio

from archipel_agent import calm


def test_without_work_nobody_waits(monkeypatch):
    monkeypatch.setattr(calm, "PATIENCE", 3600.0)
    asyncio.run(calm.Calm().wait("web"))


def test_it_is_calm_when_all_work_is_done_and_none_follows(monkeypatch):
    monkeypatch.setattr(calm, "PATIENCE", 3600.0)
    found = []

    async def scenario():
        state = calm.Calm()
        with state.work():
            waiting = asyncio.create_task(state.wait("web"))
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
            await state.wait("web")

    asyncio.run(scenario())


def test_who_is_needed_waits_no_longer(monkeypatch):
    monkeypatch.setattr(calm, "PATIENCE", 3600.0)

    async def scenario():
        state = calm.Calm()
        with state.work():
            needed, other = (asyncio.create_task(state.wait(name)) for name in ("web", "db"))
            await asyncio.sleep(0)
            state.hurry("web")
            state.hurry("nobody who waits")
            await needed
            assert not other.done()
            other.cancel()

    asyncio.run(scenario())


def test_what_is_put_off_in_a_crowd_is_done_once_when_it_is_calm(monkeypatch):
    monkeypatch.setattr(calm, "LATE", 3600.0)
    monkeypatch.setattr(calm, "_PAUSE", 0.01)
    done = []

    async def scenario():
        state = calm.Calm()
        with state.work(calm.FEW):
            assert not state.crowded
            with state.work():
                assert state.crowded
                state.put_off("web", lambda: done.append("first"))
                state.put_off("web", lambda: done.append("last"))
                state.put_off("db", lambda: done.append("db"))
            assert not state.crowded
            await asyncio.sleep(calm._PAUSE * 5)
            assert done == [], "the outer work goes on"
        await state.wait("web")
        await asyncio.sleep(0)
        assert done == ["last", "db"]
        await asyncio.sleep(calm._PAUSE * 5)

    asyncio.run(scenario())
    assert done == ["last", "db"]


def test_what_is_put_off_does_not_wait_for_ever_and_one_that_fails_keeps_no_other(monkeypatch):
    monkeypatch.setattr(calm, "LATE", 0.01)
    failed = []

    async def scenario():
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: failed.append(context["exception"]))
        state, done = calm.Calm(), asyncio.Event()
        with state.work(calm.FEW + 1):
            state.put_off("web", lambda: 1 // 0)
            state.put_off("db", done.set)
            await asyncio.wait_for(done.wait(), 60)
            done.clear()
            state.put_off("db", done.set)
            await asyncio.wait_for(done.wait(), 60)

    asyncio.run(scenario())
    assert [type(one) for one in failed] == [ZeroDivisionError]
