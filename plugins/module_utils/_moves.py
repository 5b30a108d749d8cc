# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tells how far live migrations and copies of disks are, while a module waits for their end.

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
    """What moves or is copied now. Agents are asked only where somebody watches ``progress``."""

    def __init__(self, agents: Agents, progress: Progress) -> None:
        self._agents = agents
        self._progress = progress
        self._events: dict[str, dict[str, Event]] = {}  # by hypervisor and UUID
        if progress.watched:
            agents.client.beside(self._look)

    def begin(self, decision: Decision) -> None:
        """It, which has a target, moves from now on."""
        event = Event(decision.name, f"moves from {decision.host} to {decision.target}")
        self._begin(str(decision.host), decision.uuid, event)
        self._progress.tell(event)

    def begin_copy(self, node: str, decision: Decision) -> None:
        """Its disks are copied on ``node``, if they are not there yet; only the agent knows, so nothing is told now."""
        self._begin(node, decision.uuid, Event(decision.name, f"copies its disks on {node}"))

    def end(self, node: str, uuid: str) -> None:
        """It has moved from ``node``, or is copied there, or not."""
        self._events.get(node, {}).pop(uuid, None)
        if not self._events.get(node, True):
            del self._events[node]

    def _begin(self, node: str, uuid: str, event: Event) -> None:
        self._events.setdefault(node, {})[uuid] = event

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
            return  # who asked for the work will be told
        for job in answer.get("jobs", ()):
            event = events.get(job["uuid"])
            if event is not None:
                left = "{}MiB left".format(int(job["remaining"]) >> 20)
                self._progress.tell(event._replace(percent=int(job["percent"]), detail=left))
