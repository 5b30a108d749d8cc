# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Do what a plan says. Each step may be done again: who is interrupted anywhere is helped by the next run."""

from __future__ import annotations

import contextlib
import typing as t

from archipel_protocol import permissions as names, states
from archipel_protocol.errors import CODE_DECLARATION, ArchipelError, LibvirtError

from . import domain_xml, domains, image_chains, live_changes, seeds, storage, volumes
from .dispatch import Request
from .domains import Machine
from .libvirt_facade import translate
from .plan import Do, Plan, Step
from .prediction import Prediction, ignored
from .wanted import Desired

# Seconds for what starts a process, or writes to storage.
_LONG = 180.0
# A guest that has just begun to boot does not hear the power button, so it is pressed again.
_PRESS_AGAIN = 10.0
_STARTS = (Do.START, Do.START_PAUSED)


class Execution:
    """The steps of one plan on one machine; ``done`` tells people what was done, also where it then failed.

    ``applied_live`` are those of it that the running guest has seen, and ``refused`` what it could not be given;
    ``ignored`` are paths of what is stated and libvirt has not kept. ``machine`` is what was started, where it was seen
    without another look.

    ``expected`` is the definition that the plan was made for, None if there was none.
    """

    def __init__(self, agent: t.Any, request: Request, desired: Desired, expected: str | None) -> None:
        self.done: list[str] = []
        self.applied_live: list[str] = []
        self.refused: list[str] = []
        self.ignored: list[str] = []
        self.machine: Machine | None = None
        self._agent = agent
        self._request = request
        self._desired = desired
        self._expected = expected
        self._newly_managed = False

    async def run(self, plan: Plan) -> None:
        """Take the steps; raises ArchipelError at the first that fails."""
        steps = list(plan.steps)
        while steps:
            step, *steps = steps
            try:
                if self._expected is None and step.do is Do.DEFINE and steps and steps[0].do in _STARTS:
                    await self._define_and_start(step, steps.pop(0))
                    continue
                also = await _STEPS[step.do](self, step)
            except ArchipelError as exc:
                if self._newly_managed:
                    await self._release_if_not_ours(exc)
                raise
            own = "" if step.do is Do.LIVE else step.label
            self.done += [label for label in (own, also) if label]
        if self._desired.state == "absent":
            self._agent.store.forget_volumes(self._desired.uuid)

    async def _call(self, function: t.Callable[..., t.Any], *args: t.Any) -> t.Any:
        return await self._agent.libvirt.call(function, *args, timeout=_LONG)

    async def _create_volume(self, step: Step) -> None:
        volume = (step.argument["pool"], step.argument["name"])
        # Before it is there: whoever is interrupted before the definition finds it, and has it as the machine's own.
        self._agent.store.begin_volume(self._desired.uuid, *volume)
        try:
            if storage.origin(step.argument):
                await self._agent.disk_copies.make(self._desired.uuid, step.argument)
            else:
                await self._call(volumes.make, step.argument)
        except ArchipelError:
            await self._forget_unmade(volume)
            raise

    async def _forget_unmade(self, volume: tuple[str, str]) -> None:
        """One that somebody else makes later is not the machine's."""
        with contextlib.suppress(ArchipelError):  # while nobody knows whether it is there, it counts as begun
            place = (await self._call(volumes.look_up, [volume], ()))[0][volume]
            if not place.exists and not place.half:
                self._agent.store.forget_volume(self._desired.uuid, *volume)

    async def _grow_volume(self, step: Step) -> None:
        await self._call(volumes.grow, self._desired.uuid, *step.argument)

    async def _write_seed(self, step: Step) -> None:
        await self._call(seeds.write, step.argument)

    async def _manage(self, step: Step) -> None:
        # Before the definition: a domain without a row would be somebody else's in the next run. And before volumes,
        # which may be on storage that others share, who make the same machine at this moment.
        uuid = self._desired.uuid
        self._newly_managed = not self._agent.is_managed(uuid)
        await self._agent.manage_new(uuid, self._desired.name)
        if self._newly_managed:
            await self._agent.making.secure(uuid, self._desired.assume_lost)

    async def _rename(self, step: Step) -> None:
        self._expected = await self._call(domains.rename, self._desired.uuid, step.argument)
        await self._agent.manage(self._desired.uuid, step.argument)

    async def _define(self, step: Step) -> None:
        prediction = step.argument
        xml = domain_xml.serialise(prediction.definition)
        kept = await self._call(domains.define, self._desired.uuid, self._expected, xml)
        self._newly_managed = False
        self._agent.store.forget_volumes(self._desired.uuid)
        try:
            self.ignored = self._left_out(prediction, domain_xml.parse_domain(kept))
        except ArchipelError:
            self.done.append(step.label)
            raise

    async def _define_and_start(self, step: Step, start: Step) -> None:
        """Both steps of a machine that has no definition yet, in one call."""
        prediction, paused = step.argument, start.do is Do.START_PAUSED
        trusted = self._request.permits(names.HOST_ACCESS)
        left_out: list[str] = []

        def judge(connection: t.Any, kept: str) -> None:
            found = domain_xml.parse_domain(kept)
            left_out.extend(self._left_out(prediction, found))
            if not trusted:
                image_chains.refuse(image_chains.images_outside(connection, found))

        xml = domain_xml.serialise(prediction.definition)
        begun = await self._call(domains.define_and_start, self._desired.uuid, xml, judge, paused)
        self._newly_managed = False
        self._agent.store.forget_volumes(self._desired.uuid)
        self.done.append(step.label)
        if begun.fault is not None:
            raise begun.fault if isinstance(begun.fault, ArchipelError) else translate(begun.fault)
        self.ignored = left_out
        self.done.append(start.label)
        self.machine = begun.machine

    def _left_out(self, prediction: Prediction, kept: domain_xml.Element) -> list[str]:
        """What libvirt, whose definition is ``kept``, did not keep; ArchipelError where it was to be foretold."""
        if not prediction.exact:
            stated = domain_xml.parse_domain(self._desired.domain)
            return list(ignored(stated, prediction.definition, kept))
        different = domain_xml.changes(prediction.definition, kept)
        if different:
            paths = ", ".join(change.path for change in different)
            raise ArchipelError(f"libvirt kept the definition with differences in {paths}", CODE_DECLARATION)
        return []

    async def _release_if_not_ours(self, fault: ArchipelError) -> None:
        """After a new machine that failed: a domain whose daemon died over the answer may exist all the same."""
        if not isinstance(fault, domains.Conflict):
            try:
                if await self._call(domains.look, self._desired.uuid) is not None:
                    return
            except ArchipelError:
                # Nobody knows; the next run finds the machine managed, defined or not, and completes it.
                return
        await self._agent.release(self._desired.uuid)

    async def _live(self, step: Step) -> str | None:
        change = step.argument
        try:
            await self._call(live_changes.FUNCTIONS[change.function], self._desired.uuid, *change.arguments)
        except ArchipelError as exc:
            if self._desired.apply == "live":
                raise
            self.refused.append(f"{change.label} at the next start: {exc.message}")
            return None
        self.applied_live.append(change.label)
        return str(change.label)

    async def _save(self, step: Step) -> None:
        # Memory is large and storage may be slow.
        await self._agent.libvirt.call_apart(domains.save, self._desired.uuid)

    async def _set_autostart(self, step: Step) -> None:
        await self._call(domains.set_autostart, self._desired.uuid, step.argument)

    async def _set_tags(self, step: Step) -> None:
        await self._call(domains.set_tags, self._desired.uuid, step.argument)

    async def _start(self, step: Step) -> None:
        # Again, because a shutdown before it may have taken minutes.
        await image_chains.refuse_start(self._agent, self._request, self._desired.uuid)
        await self._call(domains.start, self._desired.uuid, step.do is Do.START_PAUSED)

    async def _suspend(self, step: Step) -> None:
        await self._call(domains.suspend, self._desired.uuid)

    async def _resume(self, step: Step) -> None:
        await self._call(domains.resume, self._desired.uuid)

    async def _wake(self, step: Step) -> None:
        await self._call(domains.wake, self._desired.uuid)
        await self._wait(lambda state: state == states.RUNNING, self._desired.wait_timeout)

    async def _power_off(self, step: Step) -> None:
        await self._call(domains.power_off, self._desired.uuid)

    async def _shut_down(self, step: Step) -> str | None:
        if not self._desired.wait and not step.argument:
            await self._call(domains.shut_down, self._desired.uuid)
            return None
        left = self._desired.shutdown_timeout
        while True:
            await self._call(domains.shut_down, self._desired.uuid)
            pause = min(left, _PRESS_AGAIN)
            try:
                await self._wait(_is_off, pause)
                return None
            except LibvirtError:
                raise
            except ArchipelError:
                left -= pause
            if left <= 0:
                return await self._end_patience()

    async def _await_stop(self, step: Step) -> str | None:
        try:
            await self._wait(_is_off, self._desired.shutdown_timeout)
        except LibvirtError:
            raise
        except ArchipelError:
            return await self._end_patience()
        return None

    async def _end_patience(self) -> str:
        """The guest has not shut down in its time."""
        if not self._desired.force:
            raise ArchipelError(
                f"the virtual machine '{self._desired.name}' has not shut down within "
                f"{self._desired.shutdown_timeout:g} s; set force to take its power, or allow more time",
                CODE_DECLARATION,
            )
        await self._call(domains.power_off, self._desired.uuid)
        return "power off"

    async def _wait(self, reached: t.Callable[[int], bool], seconds: float) -> None:
        await self._agent.libvirt.wait_for_state(self._desired.uuid, reached, seconds)

    async def _delete_volume(self, step: Step) -> None:
        await self._call(volumes.remove, *step.argument)
        self._agent.store.forget_volume(self._desired.uuid, *step.argument)

    async def _undefine(self, step: Step) -> None:
        await self._call(domains.undefine, self._desired.uuid)

    async def _release(self, step: Step) -> None:
        await self._agent.release(self._desired.uuid)


def _is_off(state: int) -> bool:
    return state not in states.ACTIVE


_STEPS: dict[Do, t.Callable[[Execution, Step], t.Awaitable[t.Union[str, None]]]] = {
    Do.CREATE_VOLUME: Execution._create_volume,
    Do.GROW_VOLUME: Execution._grow_volume,
    Do.WRITE_SEED: Execution._write_seed,
    Do.MANAGE: Execution._manage,
    Do.LIVE: Execution._live,
    Do.SAVE: Execution._save,
    Do.RENAME: Execution._rename,
    Do.DEFINE: Execution._define,
    Do.SET_AUTOSTART: Execution._set_autostart,
    Do.SET_TAGS: Execution._set_tags,
    Do.AWAIT_STOP: Execution._await_stop,
    Do.SHUT_DOWN: Execution._shut_down,
    Do.POWER_OFF: Execution._power_off,
    Do.WAKE: Execution._wake,
    Do.START: Execution._start,
    Do.START_PAUSED: Execution._start,
    Do.SUSPEND: Execution._suspend,
    Do.RESUME: Execution._resume,
    Do.DELETE_VOLUME: Execution._delete_volume,
    Do.UNDEFINE: Execution._undefine,
    Do.RELEASE: Execution._release,
}
