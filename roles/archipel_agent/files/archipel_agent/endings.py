# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The end of tasks."""

from __future__ import annotations

import asyncio
import typing as t


async def end(tasks: t.Iterable[asyncio.Task[t.Any]]) -> None:
    """Cancels tasks until all of them have ended.

    Once is not enough: asyncio.wait_for of Python 3.11 forgets a cancellation that comes with what it waits for
    (https://github.com/python/cpython/issues/86296).
    """
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        dummy, left = await asyncio.wait(left, timeout=1)
