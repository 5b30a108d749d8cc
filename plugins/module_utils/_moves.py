# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tells how far live migrations are, while a module waits for their end.

Private to this collection; it may change without notice.
"""

from __future__ import annotations

import asyncio

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

    def begin(self, decision: Decision) -> None:
        """It, which has a target, moves from now on."""
        event = Event(decision.name, f"moves from {decision.host} to {decision.target}")
        self._events.setdefault(str(decision.host), {})[decision.uuid] = event
        self._progress.tell(event)

    def end(self, decision: Decision) -> None:
        """It has moved, or has not."""
        moving = self._events.get(str(decision.host), {})
        moving.pop(decision.uuid, None)
        if not moving:
            self._events.pop(str(decision.host), None)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(_PAUSE)
            try:
                await asyncio.gather(*map(self._look_at, list(self._events)))
            except (AttributeError, KeyError, TypeError, ValueError):
                return  # an agent that tells nonsense ends what nothing depends on

    async def _look_at(self, node: str) -> None:
        events = self._events.get(node, {})
        answer = await self._agents.asked(node, declaration.PROGRESS, {"uuids": sorted(events)})
        if isinstance(answer, ArchipelError):
            return  # who asked for the move will be told
        for job in answer.get("jobs", ()):
            event = events.get(job["uuid"])
            if event is not None:
                left = "{}MiB left".format(int(job["remaining"]) >> 20)
                self._progress.tell(event._replace(percent=int(job["percent"]), detail=left))
