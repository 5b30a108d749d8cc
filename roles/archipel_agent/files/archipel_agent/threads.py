# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Threads for calls that block.

As concurrent.futures has them, without a future of its own for each call and the locks in it: these take as long as the
way to a thread and back. And without a wait for the threads when the process ends: a call may hang for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import typing as t

T = t.TypeVar("T")
Back = t.Callable[[t.Any, t.Optional[BaseException]], None]


class Threads:
    """At most ``most`` threads, made as they are needed. Its methods are for the loop's thread."""

    def __init__(self, most: int, name: str) -> None:
        self._most, self._name = most, name
        self._made = self._busy = 0
        self._calls: queue.SimpleQueue[tuple[t.Any, ...] | None] = queue.SimpleQueue()

    def run(self, work: t.Callable[[], T]) -> asyncio.Future[T]:
        """What ``work`` returns or raises. Where the future is cancelled, nobody learns of it."""
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self.submit(lambda: None if answer.cancelled() else work(), lambda result, fault: settle(answer, result, fault))
        return answer

    def submit(self, work: t.Callable[[], t.Any], back: Back) -> t.Callable[[], bool]:
        """Have ``work`` done by a thread, and ``back(result, exception)`` called in the loop then.

        Returns what takes the work back: true where no thread had begun it, which then does not happen any more.
        """
        # Whoever has it does what comes next: a thread the work, or who takes it back nothing.
        claim = threading.Lock()
        if self._busy >= self._made < self._most:
            threading.Thread(target=self._serve, name=f"{self._name}_{self._made + 1}", daemon=True).start()
            self._made += 1
        self._busy += 1
        self._calls.put((asyncio.get_running_loop(), claim, work, back))

        def take_back() -> bool:
            taken = claim.acquire(blocking=False)
            self._busy -= taken
            return taken

        return take_back

    def stop(self) -> None:
        """Have the threads end after what they have begun. What they have not does not happen any more."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._calls.get_nowait()
        for dummy in range(self._made):
            self._calls.put(None)

    def _serve(self) -> None:
        """In a thread."""
        while (call := self._calls.get()) is not None:
            loop, claim, work, back = call
            if claim.acquire(blocking=False):
                result = fault = None
                try:
                    result = work()
                except BaseException as exc:  # handed over to who awaits it
                    fault = exc
                # The loop may have ended without it.
                with contextlib.suppress(RuntimeError):
                    loop.call_soon_threadsafe(self._done, back, result, fault)
                del result, fault
            # Nothing of a call is kept alive until the next.
            del call, loop, claim, work, back

    def _done(self, back: Back, result: t.Any, fault: BaseException | None) -> None:
        self._busy -= 1
        back(result, fault)


def settle(future: asyncio.Future[T], result: t.Any, fault: BaseException | None) -> None:
    """Give a future its end, unless it has one, or nobody waits for it any more."""
    if future.done():
        return
    if fault is not None:
        future.set_exception(fault)
    else:
        future.set_result(result)
