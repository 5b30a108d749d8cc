# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Makes declarations of virtual machines true over all hypervisors: find, decide, then plan or apply.

Private to this collection; it may change without notice. Decisions about the fleet are made here, where all hosts are
seen; those about a definition in the agent, beside the libvirt that will judge it.
"""

from __future__ import annotations

import typing as t

from . import _decision, _domain, _spec
from ._agents import Agents
from ._decision import Decision
from ._errors import AgentOffline, NoAnswer
from ._moves import Moves
from ._progress import Progress
from ._spec import Spec
from .archipel_protocol import declaration
from .archipel_protocol.declaration import Facts, Result
from .archipel_protocol.errors import ArchipelError, MalformedRequest

# Seconds that an agent may take to see whether a machine can move: its own login, its peer's answer.
_FORESIGHT = 40.0


class Outcome(t.NamedTuple):
    """What became of one declaration; ``error`` None: it is true, or would be."""

    name: str
    changed: bool = False
    before: t.Mapping[str, t.Any] = {}
    after: t.Mapping[str, t.Any] = {}
    actions: t.Sequence[str] = ()
    restart_required: t.Sequence[str] = ()
    applied_live: t.Sequence[str] = ()
    vm: Facts | None = None
    warning: str = ""
    error: ArchipelError | None = None

    @property
    def diff(self) -> dict[str, t.Any]:
        """Before and after, in the terms of the options."""
        return {
            "before": dict(self.before),
            "after": dict(self.after),
            "before_header": self.name,
            "after_header": self.name,
        }


def problems(specs: t.Sequence[Spec | None], option: str) -> list[str]:
    """Everything that is wrong with ``specs``, None for one that cannot be read; ``option`` is their list's name."""
    found: list[str] = []
    seen: dict[tuple[str, str], int] = {}
    for index, spec in enumerate(specs):
        if spec is None:
            continue
        where = f"{option}[{index}] ({_spec.label(spec)}): "
        found.extend(where + problem for problem in _spec.problems(spec))
        for key in ("name", "uuid"):
            value = spec.get(key)
            if value is not None and seen.setdefault((key, value.lower()), index) != index:
                found.append(f"{where}{key} '{value}' is that of {option}[{seen[(key, value.lower())]}] too")
    return found


def converge(agents: Agents, specs: t.Sequence[Spec], check: bool, progress: Progress | None = None) -> list[Outcome]:
    """Makes all of ``specs``, already validated, true, or with ``check`` says what that would change.

    An Outcome for each, in their order. One that fails does not keep the others.
    """
    decisions = _decision.decisions(agents, specs)
    outcomes: list[Outcome] = []
    for spec, decision in zip(specs, decisions):
        if isinstance(decision, ArchipelError):
            outcomes.append(Outcome(_spec.label(spec), error=decision))
        else:
            outcomes.append(Outcome(decision.name, vm=decision.existing, warning=decision.warning))
    run = _Run(agents, specs, decisions, outcomes, check, progress or Progress())
    # A machine that is to be stopped stops first: what is off moves without its memory.
    if not check:
        run.foresee_moves(_stops)
    run.move(lambda spec: not _stops(spec))
    run.declare()
    run.move(_stops)
    return run.outcomes


# The index of a declaration, and what is sent of it.
_Declaration = t.Tuple[int, declaration.Wanted]


def _declarable(queue: t.Sequence[_Declaration]) -> int:
    """How many, from the first, one request can carry."""
    return declaration.fitting([wanted for dummy, wanted in queue[: declaration.MAX_BATCH]])


def _stops(spec: Spec) -> bool:
    return spec["state"] == "stopped"


class _Run:
    """The steps of one converge, or with ``check`` what they would do.

    ``hosts`` is where each machine is now; ``outcomes`` grows step by step.
    """

    def __init__(
        self,
        agents: Agents,
        specs: t.Sequence[Spec],
        decisions: t.Sequence[Decision | ArchipelError],
        outcomes: list[Outcome],
        check: bool,
        progress: Progress,
    ) -> None:
        self.agents = agents
        self.specs = specs
        self.outcomes = outcomes
        self.decisions = decisions
        self.check = check
        self.moves = Moves(agents, progress)
        self.hosts = [None if isinstance(decision, ArchipelError) else decision.host for decision in decisions]

    def move(self, which: t.Callable[[Spec], bool]) -> None:
        """Migrates the machines of ``which`` that are elsewhere than declared, side by side on all hypervisors."""
        moving = [index for index, decision in self._pending() if decision.target and which(self.specs[index])]
        action = declaration.MIGRATE_PLAN if self.check else declaration.MIGRATE
        for index, answer in self._ask(action, moving):
            self._moved(index, answer)

    def foresee_moves(self, which: t.Callable[[Spec], bool]) -> None:
        """Fails the machines of ``which`` that cannot move where they are declared to be, before anything is done."""
        moving = [index for index, decision in self._pending() if decision.target and which(self.specs[index])]
        for index, answer in self._ask(declaration.MIGRATE_PLAN, moving):
            if isinstance(answer, ArchipelError):
                self._failed(index, answer)

    def _ask(
        self, action: str, moving: t.Sequence[int]
    ) -> t.Iterator[tuple[int, t.Mapping[str, t.Any] | ArchipelError]]:
        """The answers about migrations, which are asked for side by side on all hypervisors."""
        for batch in _rounds(moving, self.hosts):
            requests = {self._host(index): self._migration(index, action) for index in batch}
            work = _FORESIGHT
            if action == declaration.MIGRATE:
                work += max(self.specs[index]["wait_timeout"] for index in batch)
                self.moves.begin([self._decision(index) for index in batch])
            answers = self.agents.declare(action, requests, work)
            self.moves.end()
            yield from ((index, answers[self._host(index)]) for index in batch)

    def declare(self) -> None:
        """Sends each hypervisor its machines: in one request, or, where there are too many, in one after the other.

        Where one of them fails as a whole, the hypervisor is not asked for the rest.
        """
        by_host: dict[str, list[int]] = {}
        for index, dummy in self._pending():
            by_host.setdefault(self._host(index), []).append(index)
        left = {host: [(index, self._wanted(index)) for index in indices] for host, indices in by_host.items()}
        while left:
            batches = {host: queue[: _declarable(queue)] for host, queue in left.items()}
            left = {host: queue[len(batches[host]) :] for host, queue in left.items()}
            for host, error in self._declare(batches).items():
                for index, dummy in [*batches[host], *left[host]]:
                    self._failed(index, error)
                left[host] = []
            left = {host: queue for host, queue in left.items() if queue}

    def _declare(self, batches: t.Mapping[str, t.Sequence[_Declaration]]) -> dict[str, ArchipelError]:
        """One request to each hypervisor; why, where it failed as a whole."""
        requests = {
            host: {"vms": [wanted for dummy, wanted in batch], "facts": True} for host, batch in batches.items()
        }
        action = declaration.PLAN if self.check else declaration.APPLY
        work = max(self._work(index for index, dummy in batch) for batch in batches.values())
        answers = self.agents.declare(action, requests, 0.0 if self.check else work)
        failed: dict[str, ArchipelError] = {}
        for host, answer in answers.items():
            if not isinstance(answer, ArchipelError) and len(answer.get("results", ())) != len(batches[host]):
                answer = MalformedRequest(f"the answer of {host} does not tell of each machine")
            if isinstance(answer, ArchipelError):
                failed[host] = answer
            else:
                for (index, dummy), result in zip(batches[host], answer["results"]):
                    self._declared(index, result)
        return failed

    def _pending(self) -> list[tuple[int, Decision]]:
        """The declarations with something to be done that have not failed."""
        return [
            (index, self._decision(index))
            for index, host in enumerate(self.hosts)
            if host is not None and self.outcomes[index].error is None
        ]

    def _decision(self, index: int) -> Decision:
        return t.cast(Decision, self.decisions[index])

    def _host(self, index: int) -> str:
        return t.cast(str, self.hosts[index])

    def _migration(self, index: int, action: str) -> dict[str, t.Any]:
        decision, spec = self._decision(index), self.specs[index]
        request = {"uuid": decision.uuid, "to": decision.target, "timeout": spec["wait_timeout"]}
        stated = _spec.migration_of(spec)
        if stated:
            request["migration"] = stated
        if action == declaration.MIGRATE_PLAN and _stops(spec):
            request["off"] = True
        return request

    def _wanted(self, index: int) -> declaration.Wanted:
        decision = self._decision(index)
        return _domain.wanted(self.specs[index], decision.name, decision.uuid, decision.existing is None)

    def _work(self, indices: t.Iterable[int]) -> float:
        """Seconds that declarations may take, one after another."""
        return sum(self.specs[index]["shutdown_timeout"] + self.specs[index]["wait_timeout"] for index in indices)

    def _moved(self, index: int, answer: t.Mapping[str, t.Any] | ArchipelError) -> None:
        decision, outcome = self._decision(index), self.outcomes[index]
        if isinstance(answer, ArchipelError):
            self._failed(index, answer)
            return
        if not self.check:
            self.hosts[index] = decision.target
        self.outcomes[index] = outcome._replace(
            changed=True,
            before={**outcome.before, "hypervisor": decision.host},
            after={**outcome.after, "hypervisor": decision.target},
            actions=[*outcome.actions, f"move from {decision.host} to {decision.target}"],
            vm=answer.get("vm") or outcome.vm,
        )

    def _declared(self, index: int, result: Result) -> None:
        decision, outcome = self._decision(index), self.outcomes[index]
        before, after = dict(result.get("before") or {}), dict(result.get("after") or {})
        if result.get("changed") and decision.existing is None:
            after["hypervisor"] = decision.host
        self.outcomes[index] = outcome._replace(
            changed=outcome.changed or bool(result.get("changed")),
            before={**before, **outcome.before},
            after={**after, **outcome.after},
            actions=[*outcome.actions, *result.get("actions", [])],
            restart_required=result.get("restart_required", []),
            applied_live=result.get("applied_live", []),
            vm=result["vm"] if "vm" in result else outcome.vm,
        )
        if result.get("error"):
            # What was done until then stays in the outcome.
            self._failed(index, ArchipelError(result["error"], result.get("code")))

    def _failed(self, index: int, error: ArchipelError) -> None:
        decision, outcome = self._decision(index), self.outcomes[index]
        text = f"'{decision.name}' on {self.hosts[index]}: {error.message}"
        if isinstance(error, (AgentOffline, NoAnswer)) and outcome.vm is not None:
            text += "; it was last seen {}".format(outcome.vm["state"])
        self.outcomes[index] = outcome._replace(error=ArchipelError(text, error.code))


def _rounds(indices: t.Iterable[int], hosts: t.Sequence[str | None]) -> list[list[int]]:
    """``indices`` in groups in which no host comes twice."""
    rounds: list[list[int]] = []
    count: dict[str | None, int] = {}
    for index in indices:
        number = count.get(hosts[index], 0)
        count[hosts[index]] = number + 1
        if number == len(rounds):
            rounds.append([])
        rounds[number].append(index)
    return rounds
