# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Threads for calls that block: what comes back, what is taken back, and how many there are."""

from __future__ import annotations

import asyncio
import threading

import pytest

from archipel_agent.threads import Threads


def with_threads(most):
    """Runs a coroutine function with so many threads."""

    def decorate(function):
        def test():
            async def run():
                threads = Threads(most, "test")
                try:
                    await asyncio.wait_for(function(threads), 60)
                finally:
                    threads.stop()

            asyncio.run(run())

        return test

    return decorate


def name():
    return threading.current_thread().name


@with_threads(3)
async def test_what_is_returned_and_what_is_raised_comes_back(threads):
    def fail():
        raise KeyError("reason")

    assert await threads.run(lambda: 1) == 1
    with pytest.raises(KeyError, match="reason"):
        await threads.run(fail)
    assert await threads.run(lambda: 2) == 2


@with_threads(3)
async def test_threads_are_made_as_they_are_needed(threads):
    assert {await threads.run(name) for dummy in range(5)} == {"test_1"}
    together = threading.Barrier(3)

    def meet():
        together.wait(30)
        return name()

    # Three at once, or they would wait for ever; and no more of them.
    assert len(set(await asyncio.gather(*(threads.run(meet) for dummy in range(9))))) == 3


@with_threads(1)
async def test_what_no_thread_has_begun_is_taken_back(threads):
    end, begun, done = threading.Event(), threading.Event(), []

    def hang():
        begun.set()
        end.wait(30)

    def note(number):
        return lambda: done.append(number)

    ends = []
    first = threads.submit(hang, lambda result, fault: ends.append("first"))
    second = threads.submit(note(2), lambda result, fault: ends.append("second"))
    third = threads.run(note(3))
    while not begun.is_set():
        await asyncio.sleep(0.01)
    assert not first()
    assert second() and not second()
    third.cancel()
    last = threads.run(note(4))
    end.set()
    await last
    assert (done, ends) == ([4], ["first"])


@with_threads(1)
async def test_what_was_not_begun_at_the_stop_does_not_happen(threads):
    end, begun, done = threading.Event(), threading.Event(), []

    def hang():
        begun.set()
        end.wait(30)

    first = threads.run(hang)
    second = threads.run(lambda: done.append(2))
    while not begun.is_set():
        await asyncio.sleep(0.01)
    threads.stop()
    end.set()
    await first
    assert not second.done() and done == []
