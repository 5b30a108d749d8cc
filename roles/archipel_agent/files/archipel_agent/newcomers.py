# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""New machines of a crowd come under management together: to keep what is managed costs a wait for the disk each time,
in which the agent does nothing else."""

from __future__ import annotations

import asyncio
import typing as t

from .threads import settle

# Seconds in which they gather.
GATHERED = 0.005


class Newcomers:
    """Those that have come and are not managed yet. ``manage`` brings names by UUID under management, all or none."""

    def __init__(self, manage: t.Callable[[dict[str, str]], None]) -> None:
        self._manage = manage
        self._waiting: dict[str, tuple[str, asyncio.Future[None]]] = {}  # name, done; by UUID

    async def add(self, uuid: str, name: str) -> None:
        """Returns when the machine is managed; raises what ``manage`` did."""
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_later(GATHERED, self._manage_all)
        done: asyncio.Future[None] = loop.create_future()
        self._waiting[uuid] = (name, done)
        await done

    def _manage_all(self) -> None:
        waiting, self._waiting = self._waiting, {}
        # Whose request was given up meanwhile stays away.
        machines = {uuid: name for uuid, (name, done) in waiting.items() if not done.done()}
        fault = None
        try:
            self._manage(machines)
        except Exception as exc:  # handed over to who awaits it
            fault = exc
        for dummy, done in waiting.values():
            settle(done, None, fault)
