# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The end of tasks."""

from __future__ import annotations

import asyncio
import contextlib

from archipel_agent.endings import end


def test_who_misses_one_cancellation_ends_all_the_same():
    async def hard_of_hearing():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)
        await asyncio.sleep(3600)

    async def run():
        tasks = [asyncio.create_task(hard_of_hearing()), asyncio.create_task(asyncio.sleep(0))]
        await asyncio.sleep(0.01)
        await asyncio.wait_for(end(tasks), 30)
        assert [task.cancelled() for task in tasks] == [True, False]
        await end([])

    asyncio.run(run())
