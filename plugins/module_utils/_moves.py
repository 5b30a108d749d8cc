# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tells how far live migrations are, while a module waits for their end.

Private to this collection; it may change without notice.
"""

from __future__ import annotations

import asyncio
import typing as t

from ._agents import Agents
from ._decision import Decision
from ._progress import Event, Progress
from .archipel_protocol import declaration
from .archipel_protocol.errors import ArchipelError

# Seconds between two questions to an agent.
_PAUSE = 2.0


class Moves:
    """What moves now. Agents are asked only where somebody watches ``progress``."""

    def __init__(self, agents: Agents, progress: Progress) -> None:
        self._agents = agents
        self._progress = progress
        self._events: dict[str, dict[str, Event]] = {}  # by source and UUID
        if progress.watched:
            agents.client.beside(self._look)

    def begin(self, decisions: t.Iterable[Decision]) -> None:
        """These, which have a target, move from now on."""
        for one in decisions:
            event = Event(one.name, f"moves from {one.host} to {one.target}")
            self._events.setdefault(str(one.host), {})[one.uuid] = event
            self._progress.tell(event)

    def end(self) -> None:
        """All of them have moved, or have not."""
        self._events.clear()

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(_PAUSE)
            try:
                await asyncio.gather(*map(self._look_at, list(self._events)))
            except (AttributeError, KeyError, TypeError, ValueError):
                return  # an agent that tells nonsense ends what nothing depends on

    async def _look_at(self, node: str) -> None:
        events = self._events[node]
        answer = await self._agents.asked(node, declaration.PROGRESS, {"uuids": sorted(events)})
        if isinstance(answer, ArchipelError):
            return  # who asked for the move will be told
        for job in answer.get("jobs", ()):
            event = events.get(job["uuid"])
            if event is not None and node in self._events:
                left = "{}MiB left".format(int(job["remaining"]) >> 20)
                self._progress.tell(event._replace(percent=int(job["percent"]), detail=left))
