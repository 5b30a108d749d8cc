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

from . import describe, domain_xml, metadata
from .domain_xml import Element, attribute_of
from .prediction import Prediction
from .storage import Changes
from .wanted import Desired

Terms = describe.Terms


class Do(enum.Enum):
    """What a step does."""

    CREATE_VOLUME = enum.auto()
    GROW_VOLUME = enum.auto()
    MANAGE = enum.auto()
    CHANGE_MEDIA = enum.auto()
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
    UNDEFINE = enum.auto()
    RELEASE = enum.auto()


class Step(t.NamedTuple):
    """One thing to do; ``label`` is for people, and empty where it is nobody's business."""

    do: Do
    label: str
    argument: t.Any = None


@dataclasses.dataclass(frozen=True)
class Existing:
    """A machine as it is; ``definition`` is INACTIVE and SECURE."""

    name: str
    state: int
    persistent: bool
    autostart: bool
    definition: Element

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

    @property
    def changed(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.steps)

    @property
    def actions(self) -> list[str]:
        """The steps for people."""
        return [step.label for step in self.steps if step.label]


_STATE_WORDS = {"running": states.RUNNING, "paused": states.PAUSED, "stopped": states.SHUTOFF}
_START = Step(Do.START, "start")
_START_PAUSED = Step(Do.START_PAUSED, "start paused")
_SHUT_DOWN = Step(Do.SHUT_DOWN, "shut down")
_POWER_OFF = Step(Do.POWER_OFF, "power off")
_AWAIT_STOP = Step(Do.AWAIT_STOP, "wait for the shutdown")
_WAKE = Step(Do.WAKE, "wake up")
_SUSPEND = Step(Do.SUSPEND, "pause")
_RESUME = Step(Do.RESUME, "resume")

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
}


def removal(existing: Existing | None, desired: Desired, managed: bool) -> Plan:
    """The plan for state=absent."""
    plan = Plan()
    if existing is not None:
        plan.before = {**describe.definition(existing.definition), "state": states.NAMES[existing.state]}
        if existing.active:
            if not desired.force:
                raise ArchipelError(
                    f"the virtual machine '{existing.name}' is {states.NAMES[existing.state]}; "
                    "stop it first or set force",
                    CODE_DECLARATION,
                )
            plan.steps.append(_POWER_OFF)
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
    _make_volumes(plan, storage)
    if existing is None:
        plan.steps.append(Step(Do.MANAGE, ""))
    elif existing.name != desired.name:
        down = [step for step in power if step.do in (Do.AWAIT_STOP, Do.SHUT_DOWN, Do.POWER_OFF, Do.RESUME, Do.WAKE)]
        if existing.active and not {step.do for step in down} & {Do.AWAIT_STOP, Do.SHUT_DOWN, Do.POWER_OFF}:
            raise ArchipelError(
                f"the virtual machine '{existing.name}' is {states.NAMES[state]}; "
                f"it can be renamed to '{desired.name}' only while it is stopped",
                CODE_DECLARATION,
            )
        plan.steps += down
        power = power[len(down) :]
        plan.steps.append(Step(Do.RENAME, f"rename to {desired.name}", desired.name))
    if prediction is not None:
        _define(plan, existing, _named(prediction, desired.name), stays_active=_stays_active(state, desired.state))
    _show_growth(plan, storage)
    _autostart(plan, existing, desired)
    _tags(plan, existing, desired)
    plan.steps += power
    _states(plan, existing, desired, state)
    return plan


def _make_volumes(plan: Plan, storage: Changes) -> None:
    for volume in storage.make.values():
        plan.steps.append(Step(Do.CREATE_VOLUME, f"create volume {_volume(volume)}", volume))
    for path, growth in storage.grow.items():
        label = f"grow volume {_volume(growth.volume)} to {describe.size(growth.volume['capacity'] >> 10)}"
        plan.steps.append(Step(Do.GROW_VOLUME, label, (path, growth.volume)))


def _show_growth(plan: Plan, storage: Changes) -> None:
    if storage.grow:
        grown = storage.grow.values()
        plan.before["volumes"] = {_volume(growth.volume): describe.size(growth.capacity >> 10) for growth in grown}
        plan.after["volumes"] = {
            _volume(growth.volume): describe.size(growth.volume["capacity"] >> 10) for growth in grown
        }


def _volume(volume: Volume) -> str:
    return f"{volume['pool']}/{volume['name']}"


def _named(prediction: Prediction, name: str) -> Prediction:
    definition = copy.deepcopy(prediction.definition)
    definition.find("name").text = name
    return dataclasses.replace(prediction, definition=definition)


def _define(plan: Plan, existing: Existing | None, prediction: Prediction, stays_active: bool) -> None:
    definition = prediction.definition
    define = Step(Do.DEFINE, "define", prediction)
    if existing is None:
        plan.after = describe.definition(definition)
        plan.steps.append(define)
        return
    plan.before, plan.after = describe.difference(existing.definition, definition)
    media = _changed_media(existing.definition, definition) if stays_active else {}
    for target, disk in media.items():
        # Before the definition: whoever is interrupted between the two does both again.
        plan.steps.append(Step(Do.CHANGE_MEDIA, f"change medium in {target}", (target, domain_xml.serialise(disk))))
    plan.steps.append(define)
    if stays_active:
        plan.restart_required = _reasons(plan, set(media))


def _stays_active(state: int, wanted: str) -> bool:
    """Whether the guest that runs now still runs after the plan."""
    if state not in states.ACTIVE or wanted == "stopped":
        return False
    return wanted == "present" or state not in (states.SHUTDOWN, states.CRASHED)


def _changed_media(before: Element, after: Element) -> dict[str, Element]:
    """Drives of removable media, by target, in which nothing but the medium changes."""
    drives = {attribute_of(disk, "target", "dev"): disk for disk in before.findall("devices/disk")}
    found = {}
    for disk in after.findall("devices/disk"):
        target = attribute_of(disk, "target", "dev")
        if disk.get("device") not in ("cdrom", "floppy") or target not in drives:
            continue
        paths = {change.path for change in domain_xml.changes(drives[target], disk)}
        if paths and all(path == "@type" or path.split("/")[0] == "source" for path in paths):
            found[target] = disk
    return found


def _reasons(plan: Plan, done_live: set[str]) -> list[str]:
    """Why a running guest needs a restart to see its new definition, one for each part."""
    reasons = []
    for term in sorted({*plan.before, *plan.after} - {"xml", "name"}):
        old, new = plan.before.get(term), plan.after.get(term)
        if term == "cdrom" and done_live:
            continue
        if isinstance(old, list) or isinstance(new, list):
            reasons.append(f"{term} change at the next start")
        else:
            reasons.append(f"{term} changes from {_shown(old)} to {_shown(new)} at the next start")
    paths = [entry.partition(": ")[0] for entry in [*plan.before.get("xml", []), *plan.after.get("xml", [])]]
    for path in dict.fromkeys(paths):
        if not any(path.startswith(f"devices/disk[{target}]/") for target in done_live):
            reasons.append(f"{path} changes at the next start")
    return reasons


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
