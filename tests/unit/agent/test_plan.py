# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The decision, as tables."""

from __future__ import annotations

import dataclasses

import pytest

from archipel_agent import plan
from archipel_agent.domain_xml import parse
from archipel_agent.prediction import Prediction
from archipel_agent.storage import Changes
from archipel_agent.wanted import Desired
from archipel_protocol import states
from archipel_protocol.errors import ArchipelError

UUID = "1ad53f2f-5b06-5d4e-9d1c-4d4f4b0a6f39"
WEB = (
    "<domain type='kvm'><name>web</name><memory unit='KiB'>1024</memory><vcpu>1</vcpu><devices>"
    "<disk type='file' device='cdrom'><source file='/vm/iso/a'/><target dev='sda' bus='sata'/></disk></devices>"
    "</domain>"
)
VOLUME = {"pool": "default", "name": "web.qcow2", "capacity": 1, "format": "qcow2"}
NO_CHANGES = Changes()
EVERY = sorted(states.NAMES)


def existing(state=states.SHUTOFF, autostart=False, name="web", persistent=True):
    return plan.Existing(name, state, persistent, autostart, parse(WEB.replace("web", name)))


def desired(state="present", **more):
    return Desired(UUID, "web", state, **more)


def prediction(old="", new=""):
    return Prediction(parse(WEB.replace(old, new) if old else WEB), True)


def steps(made):
    return [step.do.name.lower() for step in made.steps]


@pytest.mark.parametrize(
    "state, wanted, actions",
    [
        (states.SHUTOFF, "present", []),
        (states.SHUTOFF, "running", ["start"]),
        (states.SHUTOFF, "paused", ["start paused"]),
        (states.SHUTOFF, "stopped", []),
        (states.RUNNING, "present", []),
        (states.RUNNING, "running", []),
        (states.RUNNING, "paused", ["pause"]),
        (states.RUNNING, "stopped", ["shut down"]),
        (states.BLOCKED, "running", []),
        (states.BLOCKED, "paused", ["pause"]),
        (states.BLOCKED, "stopped", ["shut down"]),
        (states.PAUSED, "present", []),
        (states.PAUSED, "running", ["resume"]),
        (states.PAUSED, "paused", []),
        (states.PAUSED, "stopped", ["resume", "shut down"]),
        (states.SHUTDOWN, "running", ["wait for the shutdown", "start"]),
        (states.SHUTDOWN, "paused", ["wait for the shutdown", "start paused"]),
        (states.SHUTDOWN, "stopped", ["wait for the shutdown"]),
        (states.CRASHED, "running", ["power off", "start"]),
        (states.CRASHED, "paused", ["power off", "start paused"]),
        (states.CRASHED, "stopped", ["power off"]),
        (states.PMSUSPENDED, "running", ["wake up"]),
        (states.PMSUSPENDED, "paused", ["wake up", "pause"]),
        (states.PMSUSPENDED, "stopped", ["wake up", "shut down"]),
    ],
)
def test_power(state, wanted, actions):
    made = plan.change(existing(state), desired(wanted), None, NO_CHANGES)
    assert made.actions == actions
    assert made.changed is bool(actions)
    if actions:
        assert made.before == {"state": states.NAMES[state]}
        assert made.after == {"state": wanted}


def test_a_new_machine():
    changes = Changes({"/vm/drives/web.qcow2": VOLUME})
    made = plan.change(None, desired("running", autostart=True), prediction(), changes)
    assert steps(made) == ["manage", "create_volume", "define", "set_autostart", "start"]
    assert made.actions == ["create volume default/web.qcow2", "define", "set autostart", "start"]
    assert made.before == {}
    assert made.after == {
        "name": "web",
        "domain_type": "kvm",
        "memory": "1MiB",
        "vcpus": 1,
        "cdrom": "/vm/iso/a",
        "autostart": True,
        "state": "running",
    }
    assert made.restart_required == []


@pytest.mark.parametrize("wanted, state", [("present", "stopped"), ("stopped", "stopped"), ("paused", "paused")])
def test_the_first_state_of_a_new_machine(wanted, state):
    assert plan.change(None, desired(wanted), prediction(), NO_CHANGES).after["state"] == state


@pytest.mark.parametrize(
    "state, wanted, reasons",
    [
        (states.SHUTOFF, "running", []),
        (states.RUNNING, "running", ["memory changes from 1MiB to 2MiB at the next start"]),
        (states.PAUSED, "present", ["memory changes from 1MiB to 2MiB at the next start"]),
        (states.RUNNING, "stopped", []),
        (states.CRASHED, "running", []),
        (states.SHUTDOWN, "running", []),
    ],
)
def test_a_running_guest_sees_a_change_after_a_restart(state, wanted, reasons):
    made = plan.change(existing(state), desired(wanted), prediction(">1024<", ">2048<"), NO_CHANGES)
    assert "define" in made.actions
    assert made.before["memory"] == "1MiB" and made.after["memory"] == "2MiB"
    assert made.restart_required == reasons


def test_a_medium_is_changed_live():
    made = plan.change(existing(states.RUNNING), desired(), prediction("/vm/iso/a", "/vm/iso/b"), NO_CHANGES)
    assert made.actions == ["change medium in sda", "define"]
    assert (made.before, made.after) == ({"cdrom": "/vm/iso/a"}, {"cdrom": "/vm/iso/b"})
    assert made.restart_required == []


@pytest.mark.parametrize(
    "state, old, new",
    [
        (states.SHUTOFF, "/vm/iso/a", "/vm/iso/b"),
        (states.RUNNING, "bus='sata'", "bus='usb'"),
    ],
)
def test_a_medium_is_not_changed_live(state, old, new):
    assert plan.change(existing(state), desired(), prediction(old, new), NO_CHANGES).actions == ["define"]


@pytest.mark.parametrize(
    "now, wanted, actions",
    [
        (False, None, []),
        (True, None, []),
        (True, True, []),
        (False, True, ["set autostart"]),
        (True, False, ["unset autostart"]),
    ],
)
def test_autostart(now, wanted, actions):
    made = plan.change(existing(autostart=now), desired(autostart=wanted), None, NO_CHANGES)
    assert made.actions == actions
    if actions:
        assert (made.before, made.after) == ({"autostart": now}, {"autostart": wanted})


TAGGED = WEB.replace(
    "<devices>", "<metadata><a:tags xmlns:a='archipel:tags'><tag>db</tag><tag>web</tag></a:tags></metadata><devices>"
)


@pytest.mark.parametrize(
    "now, wanted, actions, before, after",
    [
        (WEB, None, [], {}, {}),
        (WEB, (), [], {}, {}),
        (WEB, ("web",), ["set tags"], {"tags": []}, {"tags": ["web"]}),
        (TAGGED, None, [], {}, {}),
        (TAGGED, ("db", "web"), [], {}, {}),
        (TAGGED, (), ["set tags"], {"tags": ["db", "web"]}, {"tags": []}),
    ],
)
@pytest.mark.parametrize("state", [states.SHUTOFF, states.RUNNING])
def test_tags_need_no_restart(state, now, wanted, actions, before, after):
    machine = dataclasses.replace(existing(state), definition=parse(now))
    made = plan.change(machine, desired(tags=wanted), None, NO_CHANGES)
    assert (made.actions, made.before, made.after) == (actions, before, after)
    assert made.restart_required == []


def test_a_new_machine_is_tagged_after_it_is_defined():
    made = plan.change(None, desired("running", tags=("web",)), prediction(), NO_CHANGES)
    assert steps(made) == ["manage", "define", "set_tags", "start"]
    assert made.after["tags"] == ["web"]
    assert (
        "tags"
        in plan.removal(dataclasses.replace(existing(), definition=parse(TAGGED)), desired("absent"), True).before
    )


def test_another_name():
    made = plan.change(existing(name="old"), desired("running"), prediction(">1024<", ">2048<"), NO_CHANGES)
    assert made.actions == ["rename to web", "define", "start"]
    assert made.before == {"memory": "1MiB", "name": "old", "state": "stopped"}
    assert plan.change(existing(states.RUNNING, name="old"), desired("stopped"), None, NO_CHANGES).actions == [
        "shut down",
        "rename to web",
    ]
    with pytest.raises(ArchipelError, match="'old' is running; it can be renamed to 'web' only while it is stopped"):
        plan.change(existing(states.RUNNING, name="old"), desired("running"), None, NO_CHANGES)


@pytest.mark.parametrize("state", EVERY)
def test_absent(state):
    if state in states.ACTIVE:
        with pytest.raises(ArchipelError, match="stop it first or set force"):
            plan.removal(existing(state), desired("absent"), True)
    made = plan.removal(existing(state), desired("absent", force=True), True)
    assert steps(made) == [*(["power_off"] if state in states.ACTIVE else []), "undefine", "release"]
    assert made.before["name"] == "web" and made.after == {}


def test_absent_again():
    assert not plan.removal(None, desired("absent"), False).changed


def test_absent_after_an_interruption():
    assert plan.removal(None, desired("absent"), True).actions == ["remove account"]


def test_a_transient_machine_is_gone_with_its_power():
    made = plan.removal(existing(states.RUNNING, persistent=False), desired("absent", force=True), True)
    assert steps(made) == ["power_off", "release"]


@pytest.mark.parametrize("state", EVERY)
@pytest.mark.parametrize("wanted", states.DESIRED)
def test_nothing_to_do_is_reached_from_everywhere(state, wanted):
    """Whatever a plan ends in needs no further plan."""
    if wanted in ("absent", "restarted"):
        return
    if wanted == "saved" and state in (states.SHUTOFF, states.SHUTDOWN, states.CRASHED):
        with pytest.raises(ArchipelError, match="only a guest that runs can be saved"):
            plan.change(existing(state), desired(wanted), None, NO_CHANGES)
        return
    made = plan.change(existing(state), desired(wanted), None, NO_CHANGES)
    ends = {"running": states.RUNNING, "paused": states.PAUSED, "stopped": states.SHUTOFF, "present": state}
    ends["saved"] = states.SAVED
    ends = ends[wanted]
    assert made.changed or states.NAMES[state] in (wanted, states.NAMES[ends], "unknown")
    assert not plan.change(dataclasses.replace(existing(state), state=ends), desired(wanted), None, NO_CHANGES).changed


@pytest.mark.parametrize("state", EVERY)
def test_a_restart_ends_with_a_start_whatever_was_before(state):
    actions = plan.change(existing(state), desired("restarted"), None, NO_CHANGES).actions
    assert actions[-1] == "start"
    off = {"shut down", "power off", "wait for the shutdown"}
    assert state == states.SHUTOFF or off & set(actions)


@pytest.mark.parametrize(
    "apply, allow_restart, actions, reasons",
    [
        ("auto", False, ["define"], ["memory changes from 1MiB to 2MiB at the next start"]),
        ("auto", True, ["define", "shut down", "start"], []),
        ("live", True, ["define", "shut down", "start"], []),
        ("next_boot", False, ["define"], ["memory changes from 1MiB to 2MiB at the next start"]),
    ],
)
def test_what_needs_a_restart(apply, allow_restart, actions, reasons):
    wanted = desired("running", apply=apply, allow_restart=allow_restart)
    made = plan.change(existing(states.RUNNING), wanted, prediction(">1024<", ">2048<"), NO_CHANGES)
    assert (made.actions, made.restart_required) == (actions, reasons)


def test_what_must_be_live_and_cannot_is_refused():
    with pytest.raises(ArchipelError, match="apply is live, .* memory changes from 1MiB to 2MiB"):
        plan.change(existing(states.RUNNING), desired(apply="live"), prediction(">1024<", ">2048<"), NO_CHANGES)


def test_a_pending_change_is_told_again():
    machine = dataclasses.replace(existing(states.RUNNING), running=parse(WEB.replace(">1024<", ">512<")))
    made = plan.change(machine, desired(), None, NO_CHANGES)
    assert not made.changed
    assert made.restart_required == ["memory changes from 512KiB to 1MiB at the next start"]
