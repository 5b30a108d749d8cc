# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""A sender's flood is refused, and is nobody else's affair."""

from __future__ import annotations

import asyncio

import pytest

from archipel_agent import gate

FLOODER, OTHER = "flooder@example.org/x", "other@example.org/y"
WEB, DB = "web@example.org/hv1", "db@example.org/hv1"


def test_a_sender_may_have_so_many_requests_in_flight():
    door = gate.Gate()
    for number in range(gate.IN_FLIGHT):
        door.enter(f"flooder@example.org/{number}", WEB, 100)
    with pytest.raises(gate.Busy, match="flooder@example.org has 2000 requests in flight"):
        door.enter(FLOODER, WEB, 100)
    door.enter(OTHER, WEB, 100)
    door.leave(FLOODER, 100)
    door.enter(FLOODER, WEB, 100)


def test_large_requests_count_by_their_size():
    door = gate.Gate()
    door.enter(FLOODER, WEB, gate.SIZE * 2)  # one alone always passes; the server bounds it
    with pytest.raises(gate.Busy):
        door.enter(FLOODER, WEB, 1)
    door.enter(OTHER, WEB, gate.SIZE)


def test_all_senders_together_are_bounded():
    door = gate.Gate()
    for number in range(gate.TOTAL // gate.SIZE):
        door.enter(f"user{number}@example.org", WEB, gate.SIZE)
    with pytest.raises(gate.Busy, match="too many requests"):
        door.enter(OTHER, WEB, 1)


def test_nothing_is_kept_of_who_has_nothing_in_flight():
    door = gate.Gate()
    for size in (1, 2):
        door.enter(FLOODER, WEB, size)
    for size in (1, 2):
        door.leave(FLOODER, size)
    assert door._senders == {} and door._total == 0


def test_turns_are_the_senders_own():
    async def scene():
        door, order = gate.Gate(), []

        async def work(sender):
            async with door.enter(sender, WEB, 1):
                order.append(sender)
                await asyncio.sleep(0)

        await asyncio.gather(*(work(FLOODER) for dummy in range(gate.IN_FLIGHT)), work(OTHER))
        return order

    assert OTHER in asyncio.run(scene())[: gate.RUNNING + 1]


def test_an_entity_that_hangs_delays_its_own_requests_only():
    async def scene():
        door, answered = gate.Gate(), []

        async def work(entity, pause):
            async with door.enter(FLOODER, entity, 1):
                await pause()
                answered.append(entity)

        hanging = [asyncio.create_task(work(WEB, asyncio.Event().wait)) for dummy in range(gate.RUNNING * 2)]
        await asyncio.wait_for(work(DB, lambda: asyncio.sleep(0)), 10)
        for task in hanging:
            task.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)
        return answered

    assert asyncio.run(scene()) == [DB]


def test_who_only_waits_leaves_the_turn_to_others():
    async def scene():
        door, come, order = gate.Gate(), asyncio.Event(), []

        async def wait():
            async with gate.turn(door.enter(FLOODER, WEB, 1)):
                async with gate.aside():
                    await come.wait()
                order.append("waited")

        async def work():
            async with gate.turn(door.enter(FLOODER, WEB, 1)):
                order.append("worked")
                await asyncio.Event().wait()

        waiting = [asyncio.create_task(wait()) for dummy in range(gate.RUNNING * 2)]
        working = [asyncio.create_task(work()) for dummy in range(gate.RUNNING + 1)]
        while len(order) < gate.RUNNING:
            await asyncio.sleep(0)
        come.set()
        for dummy in range(10):
            await asyncio.sleep(0)
        # Who goes on needs a turn again, and there is none.
        assert order == ["worked"] * gate.RUNNING and not any(task.done() for task in waiting)
        for task in working:
            task.cancel()
        await asyncio.wait_for(asyncio.gather(*waiting), 10)
        await asyncio.gather(*working, return_exceptions=True)
        return order[gate.RUNNING :]

    assert asyncio.run(scene()).count("waited") == gate.RUNNING * 2


def test_outside_of_a_request_there_is_no_turn_to_leave():
    async def scene():
        async with gate.aside():
            return True

    assert asyncio.run(scene())
