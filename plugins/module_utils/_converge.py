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
from ._decision import Decision, decisions
from ._errors import AgentOffline, NoAnswer
from ._moves import Moves
from ._outcome import Outcome
from ._progress import Event, Progress
from ._schedule import Limits, Order, Queue, Step
from ._spec import Spec
from .archipel_protocol import declaration, states
from .archipel_protocol.declaration import Result
from .archipel_protocol.errors import ArchipelError, MalformedRequest

_PLANNING = Limits(None, None, 16, 4, declaration.MAX_BATCH)
# Seconds that an agent may take to see whether a machine can move: its own login, its peer's answer.
_FORESIGHT = 40.0
# What is told when a machine is worked on that is waited for, by states.WAIT_FOR.
_WAITS = {
    "state": "is waited for",
    "guest_agent": "is waited for until its guest agent is connected",
    "address": "is waited for until it has an address",
}
_OFF = frozenset(states.NAMES[state] for state in (states.SHUTOFF, states.SAVED))


class Manner(t.NamedTuple):
    """How declarations are made true. ``stop``: nothing more is begun after the first that fails.

    ``graceful``: indices of machines that are asked to shut down before they are removed. ``show_xml``: the outcomes
    have the difference in domain XML, too.
    """

    check: bool = False
    limits: Limits = Limits()
    order: Order = Order()
    stop: bool = False
    graceful: t.Collection[int] = ()
    progress: Progress = Progress()
    show_xml: bool = False


def converge(agents: Agents, specs: t.Sequence[Spec], manner: Manner) -> list[Outcome]:
    """Makes all of ``specs``, already validated, true, or with ``manner.check`` says what that would change.

    An Outcome for each, in their order. One that fails does not keep the others.
    """
    run = _Run(agents, specs, decisions(agents, specs), manner)
    if manner.check:
        run.walk(run.look(everything=True), True)
    else:
        run.walk(run.look(everything=False), True)
        run.walk(run.work(), False)
    return run.outcomes


_Answer = t.Union[t.Mapping[str, t.Any], ArchipelError]


class _Run:
    """One converge: its steps, and what became of each declaration, which grows step by step in ``outcomes``."""

    def __init__(
        self,
        agents: Agents,
        specs: t.Sequence[Spec],
        decisions: t.Sequence[Decision | ArchipelError],
        manner: Manner,
    ) -> None:
        self.agents = agents
        self.specs = specs
        self.decisions = decisions
        self.manner = manner
        self.outcomes: list[Outcome] = []
        for spec, decision in zip(specs, decisions):
            if isinstance(decision, ArchipelError):
                self.outcomes.append(Outcome(_spec.label(spec), error=decision))
            else:
                new = decision.host is not None and decision.existing is None and spec["state"] != "absent"
                known = Outcome(decision.name, vm=decision.existing, created=new, warning=decision.warning)
                self.outcomes.append(known)
        self.heirs = self._heirs()
        self.moves = Moves(agents, manner.progress)
        self.settled: set[int] = set()
        self.lost: dict[str, ArchipelError] = {}  # hypervisors that did not answer

    def look(self, everything: bool) -> Queue:
        """What is to be planned: all that is to be done, or what moves, and what may be as declared already.

        A machine alone that stays is not looked at first: its declaration is that look. One that moves is planned where
        it is, as in check mode, because what is wrong with its declaration must be known before it has moved.
        """
        steps: dict[int, list[Step]] = {}
        for index, decision in self._pending():
            host = t.cast(str, decision.host)
            if everything and index in self.heirs and self._decision(self.heirs[index]).host == host:
                # The agent would find the name in use.
                self._inherits(index)
            elif everything or decision.target or (decision.existing is not None and len(self.specs) > 1):
                steps[index] = [Step(index, host)]
                # Asked to move it, the agent looks first by itself; but one that is stopped before is not for nothing.
                if decision.target and (everything or self.specs[index]["state"] == "stopped"):
                    steps[index].append(Step(index, host, decision.target))
        return Queue(steps, Order(), _PLANNING)

    def work(self) -> Queue:
        """What is to be done."""
        steps = {index: self._steps(index, decision) for index, decision in self._pending()}
        order = self.manner.order
        after = {index: set(others) for index, others in order.after.items()}
        for index, other in self.heirs.items():
            after.setdefault(index, set()).add(other)
        queue = Queue(steps, Order(after, order.groups), self.manner.limits)
        for index, outcome in enumerate(self.outcomes):
            if outcome.error is not None:
                self._give_up(queue, index)
        return queue

    def walk(self, queue: Queue, planning: bool) -> None:
        """Takes all steps of ``queue``; with ``planning`` the agents only say what they would do."""
        while queue:
            for batch in queue.begin():
                self._send(batch, planning)
            for batch, answer in self.agents.answers():
                for step, one in _apart(batch, answer):
                    self._take(queue, step, one, planning)

    def _steps(self, index: int, decision: Decision) -> list[Step]:
        host, state = t.cast(str, decision.host), self.specs[index]["state"]
        active = decision.existing is not None and decision.existing["state"] not in _OFF
        frees = decision.existing is not None and (state == "absent" or (state in ("stopped", "saved") and active))
        if not decision.target:
            first = [Step(index, host, None, True, "stopped")] if active and index in self.manner.graceful else []
            return [*first, Step(index, host, None, frees, waits=_spec.waits(self.specs[index]))]
        if state == "stopped":
            # What is off moves without its memory.
            return [Step(index, host, None, frees), Step(index, host, decision.target)]
        waits = _spec.waits(self.specs[index])
        return [Step(index, host, decision.target), Step(index, decision.target, waits=waits)]

    def _send(self, batch: t.Sequence[Step], planning: bool) -> None:
        first = batch[0]
        if first.host in self.lost:
            self.agents.put(batch, self.lost[first.host])
            return
        if first.target is not None:
            self._send_move(first, planning)
            return
        queue = [(step, self._wanted(step, planning)) for step in batch]
        while queue:
            count = declaration.fitting([wanted for dummy, wanted in queue])
            steps, wanted = zip(*queue[:count])
            queue = queue[count:]
            # What an unchanged machine is, is known already.
            request = {"vms": wanted, "facts": not planning}
            action, work = (declaration.PLAN, 0.0) if planning else (declaration.APPLY, self._work(steps))
            self.agents.begin(steps, first.host, action, request, work)
            for step, one in () if planning else zip(steps, wanted):
                if step.waits:
                    self._tell(step.index, _WAITS[self.specs[step.index]["wait_for"]])
                if any("clone" in volume for volume in one.get("volumes", ())):
                    self.moves.begin_copy(step.host, self._decision(step.index))

    def _send_move(self, step: Step, planning: bool) -> None:
        decision, spec = self._decision(step.index), self.specs[step.index]
        request = {"uuid": decision.uuid, "to": step.target, "timeout": spec["wait_timeout"]}
        stated = _spec.migration_of(spec)
        if stated:
            request["migration"] = stated
        if planning:
            off = {"off": True} if spec["state"] == "stopped" else {}
            self.agents.begin([step], step.host, declaration.MIGRATE_PLAN, {**request, **off}, _FORESIGHT)
        else:
            self.moves.begin(decision)
            self.agents.begin([step], step.host, declaration.MIGRATE, request, _FORESIGHT + spec["wait_timeout"])

    def _take(self, queue: Queue, step: Step, answer: _Answer, planning: bool) -> None:
        """What one step has come to."""
        if isinstance(answer, (AgentOffline, NoAnswer)) and step.target is None:
            # The others on it would wait as long for the same.
            self.lost[step.host] = answer
        if not planning:
            self.moves.end(step.host, self._decision(step.index).uuid)
        if planning and not self.manner.check:
            self._take_look(queue, step, answer)
            return
        before = len(self.outcomes[step.index].actions)
        if isinstance(answer, ArchipelError):
            self._failed(step, answer)
        elif step.target is not None:
            self._moved(step, answer)
        else:
            self._declared(step, answer)
        failed = self.outcomes[step.index].error is not None
        if not planning:
            self._tell_end(step, self.outcomes[step.index].actions[before:])
        if failed:
            self._give_up(queue, step.index)
        else:
            queue.done(step.index)

    def _take_look(self, queue: Queue, step: Step, answer: _Answer) -> None:
        """What a look before the work has come to: nothing is left to do, or what moves must not begin to."""
        error = answer if isinstance(answer, ArchipelError) else _error_of(answer)
        if self._decision(step.index).target:
            if error is not None:
                self._failed(step, error)
                queue.drop(step.index)
                return
        elif error is None and not any(map(t.cast(Result, answer).get, ("changed", "waits"))):
            self._declared(step, t.cast(Result, answer))
            self.settled.add(step.index)
        queue.done(step.index)

    def _give_up(self, queue: Queue, index: int) -> None:
        """Nothing more is done with a machine that failed, nor with those that need it, nor, if asked for, with any."""
        queue.drop(index)
        if self.manner.stop and not self.manner.check:
            for other in queue.waiting():
                self._not_begun(queue, other, f"on_error is stop, and '{self.outcomes[index].name}' failed")
            return
        failed = [index]
        while failed:
            name = self.outcomes[failed[-1]].name
            for other in queue.dependents(failed.pop()):
                self._not_begun(queue, other, f"it needs '{name}', which failed")
                failed.append(other)

    def _not_begun(self, queue: Queue, index: int, reason: str) -> None:
        queue.drop(index)
        outcome = self.outcomes[index]
        if outcome.error is None:
            error = ArchipelError(f"'{outcome.name}' was not begun: {reason}")
            self.outcomes[index] = outcome._replace(error=error, skipped=True)

    def _heirs(self) -> dict[int, int]:
        """Which new machine has the name of which one that is to be gone."""
        leaving = {
            decision.existing["name"]: index
            for index, decision in enumerate(self.decisions)
            if not isinstance(decision, ArchipelError)
            and decision.existing is not None
            and self.specs[index]["state"] == "absent"
        }
        return {
            index: leaving[outcome.name]
            for index, outcome in enumerate(self.outcomes)
            if outcome.created and outcome.name in leaving
        }

    def _pending(self) -> list[tuple[int, Decision]]:
        """The declarations with something to be done that have not failed."""
        return [
            (index, t.cast(Decision, decision))
            for index, decision in enumerate(self.decisions)
            if self.outcomes[index].error is None
            and index not in self.settled
            and t.cast(Decision, decision).host is not None
        ]

    def _decision(self, index: int) -> Decision:
        return t.cast(Decision, self.decisions[index])

    def _wanted(self, step: Step, planning: bool) -> declaration.Wanted:
        decision = self._decision(step.index)
        spec = {**self.specs[step.index]}
        if step.state is not None:
            spec["state"] = step.state
        elif planning and step.index in self.manner.graceful:
            spec["force"] = True  # it will be off when its turn comes
        wanted = _domain.wanted(spec, decision.name, decision.uuid, decision.existing is None)
        if self.manner.show_xml:
            wanted["show_xml"] = True
        return wanted

    def _work(self, steps: t.Iterable[Step]) -> float:
        """Seconds that declarations may take, one after another."""
        specs = [self.specs[step.index] for step in steps]
        return sum(spec["shutdown_timeout"] + spec["wait_timeout"] + spec["start_delay"] for spec in specs)

    def _moved(self, step: Step, answer: t.Mapping[str, t.Any]) -> None:
        outcome = self.outcomes[step.index]
        move = f"move from {step.host} to {step.target}"
        # It is planned after the rest, and done before it, unless what is off moves.
        first = self.specs[step.index]["state"] != "stopped"
        self.outcomes[step.index] = outcome._replace(
            changed=True,
            before={**outcome.before, "hypervisor": step.host},
            after={**outcome.after, "hypervisor": step.target},
            actions=[move, *outcome.actions] if first else [*outcome.actions, move],
            vm=answer.get("vm") or outcome.vm,
        )

    def _inherits(self, index: int) -> None:
        decision, leaving = self._decision(index), self._decision(self.heirs[index])
        self.outcomes[index] = self.outcomes[index]._replace(
            changed=True,
            after={"hypervisor": decision.host},
            actions=[f"define, once {leaving.uuid} has left its name"],
        )

    def _declared(self, step: Step, result: Result) -> None:
        decision, outcome = self._decision(step.index), self.outcomes[step.index]
        before, after = dict(result.get("before") or {}), dict(result.get("after") or {})
        actions = list(result.get("actions", []))
        if result.get("changed") and outcome.created:
            after["hypervisor"] = decision.host
        if step.index in self.manner.graceful:
            # In check mode one plan stands for both steps. What is gone has no state.
            actions = ["shut down" if action == "power off" else action for action in actions]
            after = {}
        gone = self.specs[step.index]["state"] == "absent" and step.state is None and bool(result.get("changed"))
        self.outcomes[step.index] = outcome._replace(
            changed=outcome.changed or bool(result.get("changed")),
            before={**before, **outcome.before},
            after={**after, **outcome.after},
            actions=[*outcome.actions, *actions],
            restart_required=result.get("restart_required", []),
            applied_live=result.get("applied_live", []),
            vm=result["vm"] if "vm" in result else outcome.vm,
            xml=result.get("xml", outcome.xml),
            warning="; ".join(filter(None, [outcome.warning, _left_out(decision.name, step.host, result)])),
            gone=gone,
        )
        error = _error_of(result)
        if error is not None:
            # What was done until then stays in the outcome.
            self._failed(step, error)

    def _failed(self, step: Step, error: ArchipelError) -> None:
        decision, outcome = self._decision(step.index), self.outcomes[step.index]
        text = f"'{decision.name}' on {step.host}: {error.message}"
        if isinstance(error, (AgentOffline, NoAnswer)) and outcome.vm is not None:
            text += "; it was last seen {}".format(outcome.vm["state"])
        if self.manner.check:
            # What is refused is refused as a whole, whatever was planned of it before.
            outcome = outcome._replace(changed=False, before={}, after={}, actions=())
        self.outcomes[step.index] = outcome._replace(error=ArchipelError(text, error.code))

    def _tell(self, index: int, text: str) -> None:
        self.manner.progress.tell(Event(self.outcomes[index].name, text))

    def _tell_end(self, step: Step, actions: t.Sequence[str]) -> None:
        outcome = self.outcomes[step.index]
        if outcome.error is not None:
            self._tell(step.index, f"failed, {outcome.error.message}")
        elif step.target is not None:
            self._tell(step.index, f"has moved to {step.target}")
        elif actions:
            self._tell(step.index, ", ".join(actions))


def _left_out(name: str, host: str, result: Result) -> str:
    """What is to be said of what libvirt does not keep; "" if it keeps everything."""
    ignored = result.get("ignored")
    return f"'{name}' on {host}: libvirt does not keep what is declared at {', '.join(ignored)}" if ignored else ""


def _error_of(result: t.Mapping[str, t.Any]) -> ArchipelError | None:
    """The error of one machine in an agent's answer."""
    return ArchipelError(result["error"], result.get("code")) if result.get("error") else None


def _apart(batch: t.Sequence[Step], answer: _Answer) -> t.Iterator[tuple[Step, _Answer]]:
    """The answer about each step of one request."""
    if batch[0].target is None and not isinstance(answer, ArchipelError):
        results = answer.get("results", ())
        if len(results) == len(batch):
            yield from zip(batch, results)
            return
        answer = MalformedRequest(f"the answer of {batch[0].host} does not tell of each machine")
    yield from ((step, answer) for step in batch)
