# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Makes declarations of virtual machines true over all hypervisors: find, decide, then plan or apply.

Private to this collection; it may change without notice. Decisions about the fleet are made here, where all hosts are
seen; those about a definition in the agent, beside the libvirt that will judge it.
"""

from __future__ import annotations

import typing as t

from . import _domain, _spec
from ._agents import Agents
from ._errors import AgentOffline, Conflict, HypervisorUnknown, InvalidSpec, NoAnswer
from ._spec import Spec
from .archipel_protocol import declaration, jids
from .archipel_protocol.declaration import Facts, Result
from .archipel_protocol.errors import ArchipelError, MalformedRequest


class Decision(t.NamedTuple):
    """Where a declaration is made true: ``host`` None: nowhere, nothing is to be done. ``target``: it moves there."""

    name: str
    uuid: str
    host: str | None
    existing: Facts | None = None
    target: str | None = None


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


def decide(
    spec: Spec, vms: t.Sequence[Facts], known: t.Sequence[str], silent: t.Mapping[str, str], domain: str
) -> Decision:
    """Where ``spec`` is made true, given all machines found (``vms``), and why some hypervisors were ``silent``.

    Raises Conflict, HypervisorUnknown, AgentOffline or InvalidSpec where it cannot be, or must not.
    """
    name, wanted_host = spec["name"], spec["hypervisor"]
    if wanted_host is not None and wanted_host not in known:
        raise HypervisorUnknown(
            "hypervisor: '{}' is not a hypervisor of this platform; there are {}".format(wanted_host, ", ".join(known))
        )
    uuid = spec["uuid"].lower() if spec["uuid"] is not None else jids.vm_uuid(name, domain)
    found = _found(spec, uuid, vms)
    if found is None:
        return _decide_new(spec, uuid, known, silent)
    if spec["state"] == "absent" or wanted_host in (None, found["hypervisor"]):
        return Decision(found["name"], found["uuid"], found["hypervisor"], found)
    if wanted_host in silent:
        raise AgentOffline(
            "'{}' is on {} and cannot move to {}: {}".format(
                found["name"], found["hypervisor"], wanted_host, silent[wanted_host]
            )
        )
    return Decision(found["name"], found["uuid"], found["hypervisor"], found, wanted_host)


def _found(spec: Spec, uuid: str, vms: t.Sequence[Facts]) -> Facts | None:
    """The one machine that ``spec`` declares; None if there is none. ``uuid`` is the one given, or derived."""
    by_name = [vm for vm in vms if spec["name"] is not None and vm["name"] == spec["name"]]
    by_uuid = [vm for vm in vms if vm["uuid"] == uuid]
    found = by_uuid if spec["uuid"] is not None else by_name
    if len(found) > 1:
        raise Conflict(
            "'{}' exists more than once: {}; remove or rename all but one".format(
                _spec.label(spec), " and ".join(map(_place, sorted(found, key=_place)))
            )
        )
    for other in by_name if spec["uuid"] is not None else []:
        if other["uuid"] != uuid:
            raise Conflict("name: '{}' is already that of {}".format(spec["name"], _place(other)))
    for other in by_uuid:
        if spec["name"] is not None and other["name"] != spec["name"]:
            raise Conflict(
                "'{}' cannot have the UUID {}, which is that of '{}' on {}; a virtual machine is not renamed".format(
                    spec["name"], uuid, other["name"], other["hypervisor"]
                )
            )
    if not found:
        return None
    if not found[0]["managed"]:
        raise Conflict(
            "'{}' is used by a domain on {} that is not managed; archipel_import brings it under management".format(
                _spec.label(spec), found[0]["hypervisor"]
            )
        )
    return found[0]


def _decide_new(spec: Spec, uuid: str, known: t.Sequence[str], silent: t.Mapping[str, str]) -> Decision:
    """The decision about a machine that was found nowhere."""
    name, host = _spec.label(spec), spec["hypervisor"]
    if silent:
        raise AgentOffline(
            "'{}' was found nowhere, but may be on {}, so nothing is done: {}".format(
                name, " or ".join(sorted(silent)), "; ".join(silent[node] for node in sorted(silent))
            )
        )
    if spec["state"] == "absent":
        return Decision(name, uuid, None)
    if spec["name"] is None:
        raise Conflict(f"uuid: {uuid} was found on no hypervisor, and a new virtual machine needs a name")
    if host is None and len(known) > 1:
        raise InvalidSpec(["hypervisor: '{}' is new, so say where: {}".format(name, ", ".join(known))])
    if spec["memory"] is None and spec["xml"] is None:
        raise InvalidSpec([f"memory: '{name}' is new, so say how much, such as 2GiB"])
    return Decision(name, uuid, host or known[0])


def _place(vm: Facts) -> str:
    return "{} on {}".format(vm["uuid"], vm["hypervisor"])


def converge(agents: Agents, specs: t.Sequence[Spec], check: bool) -> list[Outcome]:
    """Makes all of ``specs``, already validated, true, or with ``check`` says what that would change.

    An Outcome for each, in their order. One that fails does not keep the others.
    """
    decisions = _decisions(agents, specs)
    outcomes: list[Outcome] = []
    for spec, decision in zip(specs, decisions):
        if isinstance(decision, ArchipelError):
            outcomes.append(Outcome(_spec.label(spec), error=decision))
        else:
            outcomes.append(Outcome(decision.name, vm=decision.existing))
    run = _Run(agents, specs, decisions, outcomes, check)
    # A machine that is to be stopped stops first: what is off moves without its memory.
    run.move(lambda spec: spec["state"] != "stopped")
    run.declare()
    run.move(lambda spec: spec["state"] == "stopped")
    return run.outcomes


def _decisions(agents: Agents, specs: t.Sequence[Spec]) -> list[Decision | ArchipelError]:
    names = {spec["name"] for spec in specs if spec["name"] is not None}
    uuids = {
        spec["uuid"].lower() if spec["uuid"] is not None else jids.vm_uuid(spec["name"], agents.domain)
        for spec in specs
    }
    inventory = agents.inventory(sorted(names), sorted(uuids))
    silent = {node: error.message for node, error in inventory.silent.items()}
    found: list[Decision | ArchipelError] = []
    for spec in specs:
        try:
            found.append(decide(spec, inventory.vms, agents.known, silent, agents.domain))
        except ArchipelError as exc:
            found.append(exc)
    return found


# The index of a declaration, and what is sent of it.
_Declaration = t.Tuple[int, declaration.Wanted]


def _declarable(queue: t.Sequence[_Declaration]) -> int:
    """How many, from the first, one request can carry."""
    return declaration.fitting([wanted for dummy, wanted in queue[: declaration.MAX_BATCH]])


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
    ) -> None:
        self.agents = agents
        self.specs = specs
        self.outcomes = outcomes
        self.decisions = decisions
        self.check = check
        self.hosts = [None if isinstance(decision, ArchipelError) else decision.host for decision in decisions]

    def move(self, which: t.Callable[[Spec], bool]) -> None:
        """Migrates the machines of ``which`` that are elsewhere than declared, side by side on all hypervisors."""
        moving = [index for index, decision in self._pending() if decision.target and which(self.specs[index])]
        if self.check:
            for index in moving:
                self._moved(index, {})
            return
        for batch in _rounds(moving, self.hosts):
            requests = {self._host(index): self._migration(index) for index in batch}
            work = max(self.specs[index]["wait_timeout"] for index in batch)
            answers = self.agents.declare(declaration.MIGRATE, requests, work)
            for index in batch:
                self._moved(index, answers[self._host(index)])

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

    def _migration(self, index: int) -> dict[str, t.Any]:
        decision = self._decision(index)
        return {"uuid": decision.uuid, "to": decision.target, "timeout": self.specs[index]["wait_timeout"]}

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
