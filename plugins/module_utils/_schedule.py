# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""In which order, and how many at a time: which steps of which machines may begin now.

Private to this collection; it may change without notice.
"""

from __future__ import annotations

import collections
import typing as t

# Machines of one request. Its answer comes when all of them are done, so few; a request costs the agent two looks at
# all domains, so not one each.
_BATCH = 8


class Step(t.NamedTuple):
    """One thing that is asked for. ``index`` is the machine's declaration, ``host`` who is asked.

    ``target``: it is a migration, to there. ``frees``: it gives a name or resources back, so others come after it.
    ``state``: in the place of the declared one. ``waits``: its answer comes long after the work is done.
    """

    index: int
    host: str
    target: str | None = None
    frees: bool = False
    state: str | None = None
    waits: bool = False


class Limits(t.NamedTuple):
    """How many machines are worked on at the same time; None: as many as there are."""

    parallel: int | None = None
    per_hypervisor: int | None = 32  # more would only wait for each other in the agent
    migrations: int | None = 5
    per_source: int | None = 2
    batch: int = _BATCH


class Order(t.NamedTuple):
    """``after``: which machines come before one, by index. ``groups``: lower numbers come before higher ones."""

    after: t.Mapping[int, t.Collection[int]] = {}
    groups: t.Mapping[int, int] = {}


class Queue:
    """The steps of all machines, one machine's one after another.

    A step that frees something waits for those machines that come after its own and have something to free, and no
    others. Every other step waits for the machines before its own, and for all that is freed where it takes something.
    """

    def __init__(self, steps: t.Mapping[int, t.Sequence[Step]], order: Order, limits: Limits) -> None:
        self._limits = limits
        self._order = order
        self._left = {index: collections.deque(one) for index, one in steps.items() if one}
        self._busy: dict[int, Step] = {}
        self._dependents: dict[int, list[int]] = {}
        for index, others in order.after.items():
            for other in others:
                self._dependents.setdefault(other, []).append(index)
        self._freeing: collections.Counter[str] = collections.Counter()
        self._groups: collections.Counter[int] = collections.Counter()
        self._freeing_groups: collections.Counter[int] = collections.Counter()
        for index, one in self._left.items():
            self._groups[self._group(index)] += 1
            for step in one:
                self._count_freeing(step, 1)

    def __bool__(self) -> bool:
        """Whether there is anything left."""
        return bool(self._left)

    def begin(self) -> list[list[Step]]:
        """The steps that may begin now, those of one list in one request; they count as begun."""
        batches: list[list[Step]] = []
        open_batches: dict[str, list[Step]] = {}
        counts = _Counts(self._busy.values(), self._limits)
        for index, steps in self._left.items():
            if counts.full:
                break
            step = steps[0]
            if index in self._busy or not counts.admits(step) or not self._is_ready(step):
                continue
            counts.add(step)
            self._busy[index] = step
            batch = open_batches.get(step.host)
            if step.target is not None or (step.waits and index in self._dependents):
                # In a request of its own: nobody goes on later than they may.
                batches.append([step])
            elif batch is None or len(batch) == self._limits.batch:
                open_batches[step.host] = [step]
                batches.append(open_batches[step.host])
            else:
                batch.append(step)
        return batches

    def done(self, index: int) -> None:
        """The step of ``index`` that had begun is done."""
        step = self._busy.pop(index)
        self._left[index].popleft()
        self._count_freeing(step, -1)
        if not self._left[index]:
            self._forget(index)

    def drop(self, index: int) -> None:
        """Nothing more is done with ``index``."""
        self._busy.pop(index, None)
        for step in self._left.get(index, ()):
            self._count_freeing(step, -1)
        if index in self._left:
            self._forget(index)

    def waiting(self) -> list[int]:
        """The machines of which a step is left and none has begun."""
        return [index for index in self._left if index not in self._busy]

    def dependents(self, index: int) -> list[int]:
        """Those of waiting() that may only begin once ``index`` is as it is declared to be."""
        found = self._dependents.get(index, ())
        return [other for other in found if other in self._left and not self._left[other][0].frees]

    def _forget(self, index: int) -> None:
        del self._left[index]
        self._groups[self._group(index)] -= 1

    def _group(self, index: int) -> int:
        return self._order.groups.get(index, 0)

    def _count_freeing(self, step: Step, number: int) -> None:
        if step.frees:
            self._freeing[step.host] += number
            self._freeing_groups[self._group(step.index)] += number

    def _is_ready(self, step: Step) -> bool:
        own = self._group(step.index)
        if step.frees:
            higher = any(count and group > own for group, count in self._freeing_groups.items())
            return not higher and not any(self._frees(other) for other in self._dependents.get(step.index, ()))
        if self._freeing[step.target or step.host]:
            return False
        if any(count and group < own for group, count in self._groups.items()):
            return False
        return not any(other in self._left for other in self._order.after.get(step.index, ()))

    def _frees(self, index: int) -> bool:
        return any(step.frees for step in self._left.get(index, ()))


class _Counts:
    """What is being worked on, against the limits."""

    def __init__(self, steps: t.Iterable[Step], limits: Limits) -> None:
        self._limits = limits
        self._all = 0
        self._hosts: collections.Counter[str] = collections.Counter()
        self._sources: collections.Counter[str] = collections.Counter()
        for step in steps:
            self.add(step)

    @property
    def full(self) -> bool:
        return not _less(self._all, self._limits.parallel)

    def admits(self, step: Step) -> bool:
        if self.full:
            return False
        if step.target is None:
            return _less(self._hosts[step.host], self._limits.per_hypervisor)
        moving = sum(self._sources.values())
        return _less(moving, self._limits.migrations) and _less(self._sources[step.host], self._limits.per_source)

    def add(self, step: Step) -> None:
        self._all += 1
        (self._hosts if step.target is None else self._sources)[step.host] += 1


def _less(count: int, limit: int | None) -> bool:
    return limit is None or count < limit
