# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who may wait: the sessions of new machines come up when declarations are done, so that these come first.

A login costs the agent and the server more than the definition and the start of a machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import typing as t

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

    async def wait(self, *unless: asyncio.Event) -> None:
        """Returns when it is calm, when one of ``unless`` is set, or after PATIENCE."""
        if self._reached.is_set():
            return
        waiting = [asyncio.ensure_future(event.wait()) for event in (self._reached, *unless)]
        try:
            await asyncio.wait(waiting, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waiting:
                one.cancel()
