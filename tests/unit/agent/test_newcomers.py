# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""New machines that come at the same time are kept together, and each learns what became of it."""

from __future__ import annotations

import asyncio
import sqlite3

import pytest

from archipel_agent.newcomers import Newcomers


def test_those_that_come_together_are_managed_in_one_go_and_later_ones_in_the_next():
    kept = []

    async def scenario():
        newcomers = Newcomers(lambda machines: kept.append(dict(machines)))
        await asyncio.gather(newcomers.add("1", "web"), newcomers.add("2", "db"))
        await newcomers.add("3", "mail")

    asyncio.run(scenario())
    assert kept == [{"1": "web", "2": "db"}, {"3": "mail"}]


def test_a_fault_is_told_to_each_of_them_and_keeps_nobody_who_comes_later():
    faults = [sqlite3.OperationalError("disk is full")]

    def manage(machines):
        if faults:
            raise faults.pop()

    async def scenario():
        newcomers = Newcomers(manage)
        told = await asyncio.gather(newcomers.add("1", "web"), newcomers.add("2", "db"), return_exceptions=True)
        await newcomers.add("1", "web")
        return [str(one) for one in told]

    assert asyncio.run(scenario()) == ["disk is full"] * 2


def test_who_is_given_up_meanwhile_is_not_managed():
    kept = []

    async def scenario():
        newcomers = Newcomers(lambda machines: kept.append(dict(machines)))
        given_up = asyncio.ensure_future(newcomers.add("1", "web"))
        stays = asyncio.ensure_future(newcomers.add("2", "db"))
        await asyncio.sleep(0)
        given_up.cancel()
        await stays
        with pytest.raises(asyncio.CancelledError):
            await given_up

    asyncio.run(scenario())
    assert kept == [{"2": "db"}]
