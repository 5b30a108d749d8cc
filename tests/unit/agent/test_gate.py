# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""A sender's flood is refused, and is nobody else's affair."""

from __future__ import annotations

import asyncio

import pytest

from archipel_agent import gate

FLOODER, OTHER = "flooder@example.org/x", "other@example.org/y"


def test_a_sender_may_have_so_many_requests_in_flight():
    door = gate.Gate()
    for number in range(gate.IN_FLIGHT):
        door.enter(f"flooder@example.org/{number}", 100)
    with pytest.raises(gate.Busy, match="flooder@example.org has 2000 requests in flight"):
        door.enter(FLOODER, 100)
    door.enter(OTHER, 100)
    door.leave(FLOODER, 100)
    door.enter(FLOODER, 100)


def test_large_requests_count_by_their_size():
    door = gate.Gate()
    door.enter(FLOODER, gate.SIZE * 2)  # one alone always passes; the server bounds it
    with pytest.raises(gate.Busy):
        door.enter(FLOODER, 1)
    door.enter(OTHER, gate.SIZE)


def test_all_senders_together_are_bounded():
    door = gate.Gate()
    for number in range(gate.TOTAL // gate.SIZE):
        door.enter(f"user{number}@example.org", gate.SIZE)
    with pytest.raises(gate.Busy, match="too many requests"):
        door.enter(OTHER, 1)


def test_nothing_is_kept_of_who_has_nothing_in_flight():
    door = gate.Gate()
    for size in (1, 2):
        door.enter(FLOODER, size)
    for size in (1, 2):
        door.leave(FLOODER, size)
    assert door._senders == {} and door._total == 0


def test_turns_are_the_senders_own():
    async def scene():
        door, order = gate.Gate(), []

        async def work(sender):
            async with door.enter(sender, 1):
                order.append(sender)
                await asyncio.sleep(0)

        await asyncio.gather(*(work(FLOODER) for dummy in range(gate.IN_FLIGHT)), work(OTHER))
        return order

    assert OTHER in asyncio.run(scene())[: gate.RUNNING + 1]
