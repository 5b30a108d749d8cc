# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who may wait until declarations are done, so that these come first: sessions of new machines, and pushes.

These cost the agent and the server more than the definition and the start of a machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import typing as t

if t.TYPE_CHECKING:
    from .agent import Agent

# Seconds without work after which it is calm: the next request of the same task may be on its way.
_PAUSE = 0.2
# Seconds that anybody waits at most.
PATIENCE = 5.0


class Calm:
    """Whether declarations are being applied."""

    def __init__(self) -> None:
        self._works = 0
        self._reached = asyncio.Event()
        self._reached.set()
        self._timer: asyncio.TimerHandle | None = None

    @contextlib.contextmanager
    def work(self) -> t.Iterator[None]:
        """It is not calm inside."""
        self._works += 1
        self._reached.clear()
        if self._timer is not None:
            self._timer.cancel()
        try:
            yield
        finally:
            self._works -= 1
            if not self._works:
                self._timer = asyncio.get_running_loop().call_later(_PAUSE, self._reached.set)

    @property
    def reached(self) -> bool:
        """Whether it is calm."""
        return self._reached.is_set()

    async def wait(self, unless: asyncio.Event | None = None) -> None:
        """Returns when it is calm, when ``unless`` is set, or after PATIENCE."""
        if self.reached:
            return
        events = [self._reached] if unless is None else [self._reached, unless]
        waiting = [asyncio.ensure_future(event.wait()) for event in events]
        try:
            await asyncio.wait(waiting, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waiting:
                one.cancel()


class Once:
    """``function``, called when it is calm: at once where it is, and else once, however often it was asked for."""

    def __init__(self, agent: Agent, function: t.Callable[[], None]) -> None:
        self._agent = agent
        self._function = function
        self._waiting: asyncio.Task[None] | None = None

    def __call__(self) -> None:
        if self._agent.calm.reached:
            self._function()
        elif self._waiting is None or self._waiting.done():
            self._waiting = self._agent.spawn(self._wait(), "what waits for declarations")

    async def _wait(self) -> None:
        await self._agent.calm.wait()
        self._function()
