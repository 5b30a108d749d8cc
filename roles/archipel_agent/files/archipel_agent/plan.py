# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""From what is and what is wanted to the steps between them. Pure; plan and apply both call it."""

from __future__ import annotations

import copy
import dataclasses
import enum
import typing as t

from archipel_protocol import states
from archipel_protocol.declaration import Volume
from archipel_protocol.errors import CODE_DECLARATION, ArchipelError

from . import cloud_init, describe, domain_xml, live, metadata, running
from .domain_xml import Element
from .prediction import Prediction
from .storage import Changes
from .wanted import Desired

Terms = describe.Terms


class Do(enum.Enum):
    """What a step does."""

    CREATE_VOLUME = enum.auto()
    GROW_VOLUME = enum.auto()
    WRITE_SEED = enum.auto()
    MANAGE = enum.auto()
    LIVE = enum.auto()
    RENAME = enum.auto()
    DEFINE = enum.auto()
    SET_AUTOSTART = enum.auto()
    SET_TAGS = enum.auto()
    AWAIT_STOP = enum.auto()
    SHUT_DOWN = enum.auto()
    POWER_OFF = enum.auto()
    WAKE = enum.auto()
    START = enum.auto()
    START_PAUSED = enum.auto()
    SUSPEND = enum.auto()
    RESUME = enum.auto()
    SAVE = enum.auto()
    DELETE_VOLUME = enum.auto()
    UNDEFINE = enum.auto()
    RELEASE = enum.auto()


class Step(t.NamedTuple):
    """One thing to do; ``label`` is for people, and empty where it is nobody's business."""

    do: Do
    label: str
    argument: t.Any = None


@dataclasses.dataclass(frozen=True)
class Existing:
    """A machine as it is; ``definition`` is INACTIVE and SECURE.

    ``autostart`` counts where a declaration states it.
    """

    name: str
    state: int
    persistent: bool
    autostart: bool
    definition: Element
    running: Element | None = None  # as running.comparable() makes it

    @property
    def active(self) -> bool:
        """Whether it runs, in whatever way."""
        return self.state in states.ACTIVE


@dataclasses.dataclass
class Plan:
    """What is to be done, and what that changes in the terms of archipel_vm's options."""

    steps: list[Step] = dataclasses.field(default_factory=list)
    before: Terms = dataclasses.field(default_factory=dict)
    after: Terms = dataclasses.field(default_factory=dict)
    restart_required: list[str] = dataclasses.field(default_factory=list)
    ignored: list[str] = dataclasses.field(default_factory=list)  # paths of what is stated and libvirt does not keep
    # The definition, where it changes: None where there was none, or will be none.
    old: Element | None = None
    new: Element | None = None

    @property
    def changed(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.steps)

    @property
    def opens_images(self) -> bool:
        """Whether QEMU opens images that it did not have open."""
        return any(step.do in (Do.START, Do.START_PAUSED, Do.LIVE) for step in self.steps)

    @property
    def starts(self) -> bool:
        """Whether it ends with a guest that was started."""
        return any(step.do in (Do.START, Do.START_PAUSED) for step in self.steps)

    @property
    def actions(self) -> list[str]:
        """The steps for people."""
        return [step.label for step in self.steps if step.label]


_STATE_WORDS = {
    "running": states.RUNNING,
    "restarted": states.RUNNING,
    "paused": states.PAUSED,
    "stopped": states.SHUTOFF,
    "saved": states.SAVED,
}
_START = Step(Do.START, "start")
_START_PAUSED = Step(Do.START_PAUSED, "start paused")
_SHUT_DOWN = Step(Do.SHUT_DOWN, "shut down")
# Whatever follows needs a guest that is off.
_SHUT_DOWN_FIRST = Step(Do.SHUT_DOWN, "shut down", True)
_POWER_OFF = Step(Do.POWER_OFF, "power off")
_AWAIT_STOP = Step(Do.AWAIT_STOP, "wait for the shutdown")
_WAKE = Step(Do.WAKE, "wake up")
_SUSPEND = Step(Do.SUSPEND, "pause")
_RESUME = Step(Do.RESUME, "resume")
_SAVE = Step(Do.SAVE, "save")

# (wanted, current) → steps; a pair that is not here needs none. A crashed guest is beyond shutting down.
_POWER: dict[tuple[str, int], tuple[Step, ...]] = {
    ("running", states.SHUTOFF): (_START,),
    ("running", states.PAUSED): (_RESUME,),
    ("running", states.SHUTDOWN): (_AWAIT_STOP, _START),
    ("running", states.CRASHED): (_POWER_OFF, _START),
    ("running", states.PMSUSPENDED): (_WAKE,),
    ("paused", states.SHUTOFF): (_START_PAUSED,),
    ("paused", states.RUNNING): (_SUSPEND,),
    ("paused", states.BLOCKED): (_SUSPEND,),
    ("paused", states.NOSTATE): (_SUSPEND,),
    ("paused", states.SHUTDOWN): (_AWAIT_STOP, _START_PAUSED),
    ("paused", states.CRASHED): (_POWER_OFF, _START_PAUSED),
    ("paused", states.PMSUSPENDED): (_WAKE, _SUSPEND),
    ("stopped", states.RUNNING): (_SHUT_DOWN,),
    ("stopped", states.BLOCKED): (_SHUT_DOWN,),
    ("stopped", states.NOSTATE): (_SHUT_DOWN,),
    ("stopped", states.PAUSED): (_RESUME, _SHUT_DOWN),
    ("stopped", states.SHUTDOWN): (_AWAIT_STOP,),
    ("stopped", states.CRASHED): (_POWER_OFF,),
    ("stopped", states.PMSUSPENDED): (_WAKE, _SHUT_DOWN),
    # What a guest has in memory is not thrown away for it to be off.
    ("stopped", states.SAVED): (_START, _SHUT_DOWN),
    ("running", states.SAVED): (_START,),
    ("paused", states.SAVED): (_START_PAUSED,),
    ("saved", states.RUNNING): (_SAVE,),
    ("saved", states.BLOCKED): (_SAVE,),
    ("saved", states.NOSTATE): (_SAVE,),
    ("saved", states.PAUSED): (_SAVE,),
    ("saved", states.PMSUSPENDED): (_WAKE, _SAVE),
    ("restarted", states.SHUTOFF): (_START,),
    ("restarted", states.RUNNING): (_SHUT_DOWN_FIRST, _START),
    ("restarted", states.BLOCKED): (_SHUT_DOWN_FIRST, _START),
    ("restarted", states.NOSTATE): (_SHUT_DOWN_FIRST, _START),
    ("restarted", states.PAUSED): (_RESUME, _SHUT_DOWN_FIRST, _START),
    ("restarted", states.SHUTDOWN): (_AWAIT_STOP, _START),
    ("restarted", states.CRASHED): (_POWER_OFF, _START),
    ("restarted", states.PMSUSPENDED): (_WAKE, _SHUT_DOWN_FIRST, _START),
    ("restarted", states.SAVED): (_START, _SHUT_DOWN_FIRST, _START),
}
_DOWN = frozenset((Do.AWAIT_STOP, Do.SHUT_DOWN, Do.POWER_OFF))


def removal(
    existing: Existing | None, desired: Desired, managed: bool, volumes: t.Iterable[tuple[str, str]] = ()
) -> Plan:
    """The plan for state=absent; ``volumes`` go with the machine, or are what is left of one that never came to be."""
    plan = Plan()
    if existing is not None:
        _refuse_protected(existing, desired, "removed")
        plan.before = {**describe.definition(existing.definition), "state": states.NAMES[existing.state]}
        plan.old = existing.definition
        if existing.active:
            if not desired.force:
                raise ArchipelError(
                    f"the virtual machine '{existing.name}' is {states.NAMES[existing.state]}; "
                    "stop it first or set force",
                    CODE_DECLARATION,
                )
            plan.steps.append(_POWER_OFF)
    # Before the definition, which tells whose they are.
    plan.steps += map(_deletion, volumes)
    if existing is not None:
        if existing.persistent:
            plan.steps.append(Step(Do.UNDEFINE, "undefine"))
    if managed:
        plan.steps.append(Step(Do.RELEASE, "" if existing else "remove account"))
    return plan


def change(existing: Existing | None, desired: Desired, prediction: Prediction | None, storage: Changes) -> Plan:
    """The plan for every other state.

    ``prediction`` is what the definition becomes, None if it stays.
    """
    plan = Plan()
    state = states.SHUTOFF if existing is None else existing.state
    power = list(_POWER.get((desired.state, state), ()))
    if existing is not None and desired.state == "stopped" and power:
        _refuse_protected(existing, desired, "stopped")
    if desired.state == "saved" and not power and state != states.SAVED:
        raise ArchipelError(
            f"the virtual machine '{desired.name}' is {states.NAMES[state]}; only a guest that runs can be saved",
            CODE_DECLARATION,
        )
    if existing is None:
        plan.steps.append(Step(Do.MANAGE, ""))
    _make_volumes(plan, storage)
    if existing is not None and existing.name != desired.name:
        down = [step for step in power if step.do in (*_DOWN, Do.RESUME, Do.WAKE)]
        if existing.active and not {step.do for step in down} & _DOWN:
            raise ArchipelError(
                f"the virtual machine '{existing.name}' is {states.NAMES[state]}; "
                f"it can be renamed to '{desired.name}' only while it is stopped",
                CODE_DECLARATION,
            )
        plan.steps += down
        power = power[len(down) :]
        plan.steps.append(Step(Do.RENAME, f"rename to {desired.name}", desired.name))
    prediction = None if prediction is None else _named(prediction, desired.name)
    if prediction is not None:
        plan.old, plan.new = existing and existing.definition, prediction.definition
        if existing is None:
            plan.after = describe.definition(prediction.definition)
        else:
            plan.before, plan.after = describe.difference(
                existing.definition, prediction.definition, prediction.changes
            )
    if existing is not None:
        _running(plan, existing, desired, prediction)
    if prediction is not None:
        plan.steps.append(Step(Do.DEFINE, "define", prediction))
    if plan.restart_required and desired.allow_restart and existing is not None and existing.active:
        power = _restart(state, desired.state)
        plan.restart_required = []
    _show_growth(plan, storage)
    _show_seed(plan, storage)
    _autostart(plan, existing, desired)
    _tags(plan, existing, desired)
    plan.steps += power
    _states(plan, existing, desired, state)
    plan.steps += [_deletion(seed) for seed in storage.gone if not _keeps(existing, desired, seed)]
    return plan


def _keeps(existing: Existing | None, desired: Desired, seed: tuple[str, str]) -> bool:
    """Whether a guest that goes on has a seed in its drive: it has it until its next start, and cannot move without."""
    if existing is None:
        return False
    if existing.state == states.SAVED:
        return desired.state not in ("stopped", "restarted")
    stays = _stays_active(existing.state, desired.state)
    return stays and (existing.running is None or cloud_init.holds(existing.running, seed[1]))


def _refuse_protected(existing: Existing, desired: Desired, what: str) -> None:
    protected = metadata.is_protected(existing.definition) if desired.protected is None else desired.protected
    if protected:
        raise ArchipelError(metadata.refusal(existing.name, what), CODE_DECLARATION)


def _make_volumes(plan: Plan, storage: Changes) -> None:
    for volume in storage.make.values():
        plan.steps.append(Step(Do.CREATE_VOLUME, f"create volume {_volume(volume)}", volume))
    for path, growth in storage.grow.items():
        label = f"grow volume {_volume(growth.volume)} to {describe.size(growth.volume['capacity'] >> 10)}"
        plan.steps.append(Step(Do.GROW_VOLUME, label, (path, growth.volume)))
    seed = storage.seed
    if seed is not None and seed.image is not None:
        plan.steps.append(Step(Do.WRITE_SEED, f"write cloud-init seed {_volume(seed.volume)}", seed))


def _show_growth(plan: Plan, storage: Changes) -> None:
    if storage.grow:
        grown = storage.grow.values()
        plan.before["volumes"] = {_volume(growth.volume): describe.size(growth.capacity >> 10) for growth in grown}
        plan.after["volumes"] = {
            _volume(growth.volume): describe.size(growth.volume["capacity"] >> 10) for growth in grown
        }


def _show_seed(plan: Plan, storage: Changes) -> None:
    """What is written tells more than that there is a drive."""
    if storage.seed is not None and storage.seed.image is not None:
        plan.before.pop("cloud_init", None)
        if storage.seed.before:
            plan.before["cloud_init"] = storage.seed.before
        plan.after["cloud_init"] = storage.seed.after


def _deletion(volume: tuple[str, str]) -> Step:
    return Step(Do.DELETE_VOLUME, f"delete volume {'/'.join(volume)}", volume)


def _volume(volume: Volume) -> str:
    return f"{volume['pool']}/{volume['name']}"


def _named(prediction: Prediction, name: str) -> Prediction:
    if domain_xml.text_of(prediction.definition, "name") == name:
        return prediction
    definition = copy.deepcopy(prediction.definition)
    definition.find("name").text = name
    return dataclasses.replace(prediction, definition=definition, changes=None)


def _running(plan: Plan, existing: Existing, desired: Desired, prediction: Prediction | None) -> None:
    """What a guest that stays can be given at once, and why it needs a restart for the rest."""
    target = existing.definition if prediction is None else prediction.definition
    if existing.state == states.SAVED and prediction is not None:
        plan.restart_required = _reasons(plan.before, plan.after)
    if not _stays_active(existing.state, desired.state):
        return
    after = existing.definition if existing.running is None else existing.running
    after = running.with_words_of(after, target)
    if desired.apply != "next_boot":
        found: list[live.Change] = []
        if not domain_xml.equal(after, target):
            changed = _changes(existing, prediction)
            found, after = live.changes(after, target, _allowed(desired, after, target, changed))
        # Before the definition: whoever is interrupted between the two does both again.
        for one in [*live.texts(existing.definition, target), *found]:
            plan.steps.append(Step(Do.LIVE, one.label, one))
    if prediction is not None and domain_xml.equal(after, existing.definition):
        # As of most guests: it has what the definition had.
        plan.restart_required = _reasons(plan.before, plan.after)
    elif not domain_xml.equal(after, target):
        plan.restart_required = _reasons(*describe.difference(after, target))
    if plan.restart_required and desired.apply == "live" and not desired.allow_restart:
        raise ArchipelError(
            f"apply is live, and the running guest cannot have this: {'; '.join(plan.restart_required)}",
            CODE_DECLARATION,
        )


def _changes(existing: Existing, prediction: Prediction | None) -> t.Iterable[domain_xml.Change]:
    """What becomes different of the definition."""
    if prediction is None:
        return ()
    if prediction.changes is not None:
        return prediction.changes
    return domain_xml.changes(existing.definition, prediction.definition)


def _allowed(
    desired: Desired, now: Element, target: Element, changes: t.Iterable[domain_xml.Change]
) -> t.Callable[[str], bool]:
    """Tells of a part of the guest that runs whether this declaration changes it, or states it to be there.

    No other is touched.
    """
    changed = {change.path for change in changes}
    stated = live.labels_of(now, desired.exact) | live.labels_of(target, desired.exact)
    return lambda part: part in stated or any(path == part or path.startswith(part + "/") for path in changed)


def _restart(state: int, wanted: str) -> list[Step]:
    down = [_SHUT_DOWN_FIRST if step.do is Do.SHUT_DOWN else step for step in _POWER.get(("stopped", state), ())]
    paused = wanted == "paused" or (wanted == "present" and state == states.PAUSED)
    return [*down, _START_PAUSED if paused else _START]


def _stays_active(state: int, wanted: str) -> bool:
    """Whether the guest that runs now still runs after the plan, or its memory is kept."""
    if state not in states.ACTIVE or wanted in ("stopped", "restarted"):
        return False
    return wanted == "present" or state not in (states.SHUTDOWN, states.CRASHED)


def _reasons(before: Terms, after: Terms) -> list[str]:
    """Why a guest needs a restart to have its definition, one for each part of their describe.difference()."""
    reasons = []
    for term in sorted({*before, *after} - {"xml", "name"}):
        old, new = before.get(term), after.get(term)
        if isinstance(old, (list, dict)) or isinstance(new, (list, dict)):
            reasons.append(f"{term} change at the next start")
        else:
            reasons.append(f"{term} changes from {_shown(old)} to {_shown(new)} at the next start")
    paths = [entry.partition(": ")[0] for entry in [*before.get("xml", []), *after.get("xml", [])]]
    return [*reasons, *(f"{path} changes at the next start" for path in dict.fromkeys(paths))]


def _shown(value: t.Any) -> str:
    return "nothing" if value is None else str(value)


def _autostart(plan: Plan, existing: Existing | None, desired: Desired) -> None:
    now = existing is not None and existing.autostart
    if desired.autostart is None or desired.autostart == now:
        return
    label = "set autostart" if desired.autostart else "unset autostart"
    plan.steps.append(Step(Do.SET_AUTOSTART, label, desired.autostart))
    if existing is not None:
        plan.before["autostart"] = now
    plan.after["autostart"] = desired.autostart


def _tags(plan: Plan, existing: Existing | None, desired: Desired) -> None:
    now = [] if existing is None else metadata.tags_of(existing.definition)
    if desired.tags is None or list(desired.tags) == now:
        return
    plan.steps.append(Step(Do.SET_TAGS, "set tags", desired.tags))
    if existing is not None:
        plan.before["tags"] = now
    plan.after["tags"] = list(desired.tags)


def _states(plan: Plan, existing: Existing | None, desired: Desired, state: int) -> None:
    if existing is not None and existing.name != desired.name:
        plan.before["name"], plan.after["name"] = existing.name, desired.name
    target = _STATE_WORDS.get(desired.state, state)
    if existing is None:
        plan.after["state"] = states.NAMES[target]
    elif states.NAMES[target] != states.NAMES[state]:
        plan.before["state"], plan.after["state"] = states.NAMES[state], states.NAMES[target]
