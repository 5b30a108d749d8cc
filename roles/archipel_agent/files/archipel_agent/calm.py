# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who may wait while declarations are made true, so that these come first.

The sessions of new machines come up when the declarations are done: a login costs the agent and the server more than
the definition and the start of a machine. And where many machines are worked on at once, what is told of them, which
costs as much as the work, goes a second later and together.
"""

from __future__ import annotations

import asyncio
import contextlib
import typing as t

from .threads import settle

# Seconds without work after which it is calm: the next request of the same task may be on its way.
_PAUSE = 0.2
# Seconds that anybody waits at most.
PATIENCE = 5.0
# More machines than so many at once are a crowd; and the seconds after which what is put off for one is done anyway.
FEW = 8
LATE = 1.0


class Calm:
    """Whether declarations are being applied."""

    def __init__(self) -> None:
        self._works = 0
        self._calm = True
        self._waiting: dict[t.Hashable, asyncio.Future[None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._machines = 0
        self._put_off: dict[t.Hashable, t.Callable[[], object]] = {}
        self._due: asyncio.TimerHandle | None = None

    @contextlib.contextmanager
    def work(self, machines: int = 1) -> t.Iterator[None]:
        """It is not calm inside, where so many machines are worked on."""
        self._works += 1
        self._machines += machines
        self._calm = False
        if self._timer is not None:
            self._timer.cancel()
        try:
            yield
        finally:
            self._works -= 1
            self._machines -= machines
            if not self._works:
                self._timer = asyncio.get_running_loop().call_later(_PAUSE, self._reach)

    def _reach(self) -> None:
        self._calm = True
        for waiting in list(self._waiting.values()):
            settle(waiting, None, None)
        self._do_what_was_put_off()

    @property
    def crowded(self) -> bool:
        """Whether many machines are being worked on."""
        return self._machines > FEW

    def put_off(self, what: t.Hashable, work: t.Callable[[], object]) -> None:
        """Has ``work`` done when it is calm, or after LATE; of several for the same ``what``, the last."""
        if not self._put_off:
            self._due = asyncio.get_running_loop().call_later(LATE, self._do_what_was_put_off)
        self._put_off[what] = work

    def _do_what_was_put_off(self) -> None:
        if self._due is not None:
            self._due.cancel()
        works, self._put_off, self._due = self._put_off, {}, None
        for work in works.values():
            asyncio.get_running_loop().call_soon(work)

    async def wait(self, who: t.Hashable) -> None:
        """Returns when it is calm, when ``who``, that waits once at a time, is to hurry(), or after PATIENCE."""
        if self._calm:
            return
        waiting = self._waiting[who] = asyncio.get_running_loop().create_future()
        late = asyncio.get_running_loop().call_later(PATIENCE, settle, waiting, None, None)
        try:
            await waiting
        finally:
            late.cancel()
            del self._waiting[who]

    def hurry(self, who: t.Hashable) -> None:
        """``who`` waits no longer."""
        if who in self._waiting:
            settle(self._waiting[who], None, None)
