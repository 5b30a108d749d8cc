# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet over agents that do what they are told: what is asked of whom, in which order, and what comes of it."""

from __future__ import annotations

import json

import pytest
from ansible_collections.archipel.platform.plugins.module_utils import _fleet
from ansible_collections.archipel.platform.plugins.module_utils._agents import Agents
from ansible_collections.archipel.platform.plugins.module_utils._converge import Manner, converge
from ansible_collections.archipel.platform.plugins.module_utils._errors import (
    AgentOffline,
    Conflict,
    HypervisorUnknown,
)
from ansible_collections.archipel.platform.plugins.module_utils._outcome import counts, summary
from ansible_collections.archipel.platform.plugins.module_utils.archipel_protocol import declaration, jids

from .specs import DOMAIN
from .stand_in import Client
from .test_declarations import element

MOVE = "move from hv1 to hv2"
OTHER = "11111111-2222-4333-8444-555555555555"


class Platform:
    """Two hypervisors whose agents keep states and a memory size for each machine, and nothing else."""

    def __init__(self, *vms):
        self.vms = {}
        self.log = []  # (hypervisor, action, names)
        self.offline = set()
        self.broken = set()  # names that fail
        self.fixed = set()  # names that cannot move
        for name, hypervisor, state, *tags in vms:
            uuid = jids.vm_uuid(name, DOMAIN)
            self.vms[uuid] = {"name": name, "uuid": uuid, "hypervisor": hypervisor, "state": state, "tags": tags}
            self.vms[uuid].update(managed=True, memory="?")

    def answer(self, node, action, request):
        if node in self.offline:
            raise AgentOffline(f"the agent of {node} is offline")
        own = [vm for vm in self.vms.values() if vm["hypervisor"] == node]
        if action == declaration.INVENTORY:
            wanted = {*request.get("names", ()), *request.get("uuids", ())}
            return {"vms": [vm for vm in own if not wanted or {vm["name"], vm["uuid"]} & wanted]}
        if action in (declaration.MIGRATE_PLAN, declaration.MIGRATE):
            if self.vms[request["uuid"]]["name"] in self.fixed:
                raise AgentOffline("it cannot move")
            if action == declaration.MIGRATE_PLAN:
                return {}
            self.log.append((node, "migrate", [self.vms[request["uuid"]]["name"]]))
            self.vms[request["uuid"]]["hypervisor"] = request["to"]
            return {"vm": self.vms[request["uuid"]]}
        self.log.append((node, action, [one["name"] for one in request["vms"]]))
        return {"results": [self._result(node, one, action == declaration.APPLY) for one in request["vms"]]}

    def _result(self, node, one, apply):
        uuid, found = one["uuid"], self.vms.get(one["uuid"])
        if one["name"] in self.broken:
            return {"uuid": uuid, "error": "it is broken"}
        if any(vm["name"] == one["name"] and vm["uuid"] != uuid for vm in self.vms.values()):
            return {"uuid": uuid, "error": "the name is used"}
        if one["state"] == "absent":
            if found["state"] == "running" and not one["force"]:
                return {"uuid": uuid, "error": "it is running"}
            off = ["power off"] if found["state"] == "running" else []
            if apply:
                del self.vms[uuid]
            return {"uuid": uuid, "changed": True, "actions": [*off, "undefine"], "before": dict(found), "after": {}}
        before, after = {}, {}
        memory = one["domain"] if "<memory" in one.get("domain", "") else None
        if found is None:
            after = {"memory": memory, "state": {"running": "running"}.get(one["state"], "stopped")}
        else:
            if memory is not None and memory != found["memory"]:
                before["memory"], after["memory"] = found["memory"], memory
            if one["state"] in ("running", "stopped", "paused") and one["state"] != found["state"]:
                before["state"], after["state"] = found["state"], one["state"]
        if not after:
            return {"uuid": uuid}
        if apply:
            new = {"name": one["name"], "uuid": uuid, "hypervisor": node, "tags": [], "managed": True, "memory": "?"}
            self.vms[uuid] = {**new, **(found or {}), **after}
        return {"uuid": uuid, "changed": True, "actions": sorted(after), "before": before, "after": after}

    def run(self, vms=None, check=False, limits=None, stop=False, **options):
        """What the fleet's options come to. Nothing of what they say is wrong."""
        given = {"purge": "none", "scope": None, "limit": None, "purge_limit": None, "selector": None, "defaults": {}}
        given.update(state=None, hypervisor=None, **dict.fromkeys(_fleet.LIMITS))
        given.update(options, vms=None if vms is None else [element(**one) for one in vms])
        assert _fleet.option_problems(given) == []
        manner = Manner(check=check, stop=stop)
        return _fleet.run(
            Agents(Client(self.answer)), given, manner if limits is None else manner._replace(limits=limits)
        )

    def asked(self, *actions):
        """Who was asked for one of ``actions``."""
        return [(node, names) for node, action, names in self.log if action in actions]


def errors(done):
    return [None if outcome.error is None else outcome.error.message for outcome in done.outcomes]


def new(name, hypervisor="hv1", **more):
    return {"name": name, "hypervisor": hypervisor, "memory": "1GiB", "state": "running", **more}


def test_what_is_as_declared_is_planned_and_not_applied():
    vms = [new("a"), new("b", "hv2"), new("c", "hv2", memory="2GiB")]
    platform = Platform()
    platform.run(vms)
    platform.log.clear()
    done = platform.run([*vms[:2], {**vms[2], "memory": "3GiB"}])
    assert platform.asked(declaration.PLAN) == [("hv1", ["a"]), ("hv2", ["b", "c"])]
    assert platform.asked(declaration.APPLY) == [("hv2", ["c"])]
    assert summary(done.outcomes, False) == "changed 1, unchanged 2"


def test_check_mode_plans_and_does_nothing():
    platform = Platform(
        ("a", "hv1", "stopped"), ("b", "hv1", "running"), ("c", "hv1", "paused"), ("d", "hv2", "running")
    )
    before = json.dumps(platform.vms)
    declared = [
        {"name": "a", "state": "running"},
        {"name": "b", "hypervisor": "hv2"},
        {"name": "c", "state": "running"},
        {"name": "d", "state": "absent", "force": True},
        new("e"),
        {"name": "d2", "state": "absent"},
    ]
    planned = platform.run(declared, check=True)
    assert json.dumps(platform.vms) == before
    assert platform.asked(declaration.APPLY, "migrate") == []
    assert summary(planned.outcomes, True) == "create 1, move 1, start 1, resume 1, remove 1, unchanged 1"
    done = platform.run(declared)
    assert [one.diff for one in planned.outcomes] == [one.diff for one in done.outcomes]
    assert summary(done.outcomes, False) == "created 1, moved 1, started 1, resumed 1, removed 1, unchanged 1"
    assert counts(done.outcomes) == counts(planned.outcomes)


def test_what_is_freed_comes_before_what_is_taken():
    platform = Platform(("old", "hv1", "running"), ("gone", "hv1", "stopped"))
    done = platform.run([new("a"), {"name": "old", "state": "stopped"}, {"name": "gone", "state": "absent"}])
    assert errors(done) == [None] * 3
    assert platform.asked(declaration.APPLY) == [("hv1", ["old", "gone"]), ("hv1", ["a"])]


def test_what_cannot_move_is_not_stopped_for_it():
    platform = Platform(("a", "hv1", "running"), ("b", "hv1", "running"))
    platform.fixed.add("a")
    done = platform.run([{"name": name, "hypervisor": "hv2", "state": "stopped"} for name in ("a", "b")])
    assert errors(done) == ["'a' on hv1: it cannot move; it was last seen running", None]
    assert platform.asked(declaration.APPLY, "migrate") == [("hv1", ["b"]), ("hv1", ["b"])]


@pytest.mark.parametrize("state", ["running", "stopped"])
@pytest.mark.parametrize("others", [[], [{"name": "b", "hypervisor": "hv2"}]], ids=["alone", "of several"])
def test_what_is_declared_wrong_does_not_move(state, others):
    platform = Platform(("a", "hv1", "running"), ("b", "hv1", "running"))
    platform.broken.add("a")
    declared = [{"name": "a", "hypervisor": "hv2", "state": state}, *others]
    planned = platform.run(declared, check=True)
    done = platform.run(declared)
    assert errors(done) == errors(planned) == ["'a' on hv1: it is broken", *[None for dummy in others]]
    assert platform.asked("migrate") == [("hv1", [other["name"]]) for other in others]
    assert [one.diff for one in planned.outcomes] == [one.diff for one in done.outcomes]


@pytest.mark.parametrize("state", ["running", "stopped"])
def test_what_cannot_move_is_foretold_as_nothing_done(state):
    platform = Platform(("a", "hv1", "running"))
    platform.fixed.add("a")
    declared = [{"name": "a", "hypervisor": "hv2", "state": state, "memory": "2GiB"}]
    (planned,) = platform.run(declared, check=True).outcomes
    (done,) = platform.run(declared).outcomes
    assert planned.error.message == done.error.message == "'a' on hv1: it cannot move; it was last seen running"
    assert (planned.changed, planned.diff, planned.actions) == (done.changed, done.diff, done.actions)
    assert not done.changed and platform.asked(declaration.APPLY) == []


@pytest.mark.parametrize("state, actions", [("running", [MOVE, "memory"]), ("stopped", ["memory", "state", MOVE])])
def test_a_move_has_its_place_among_the_actions_of_check_mode(state, actions):
    platform = Platform(("a", "hv1", "running"))
    declared = [{"name": "a", "hypervisor": "hv2", "state": state, "memory": "2GiB"}]
    (planned,) = platform.run(declared, check=True).outcomes
    (done,) = platform.run(declared).outcomes
    assert planned.actions == done.actions == actions
    assert planned.diff == done.diff


def test_a_name_is_free_when_its_owner_is_gone():
    platform = Platform(("web", "hv1", "stopped"))
    old = platform.vms.popitem()[1]
    platform.vms[OTHER] = {**old, "uuid": OTHER}
    declared = [new("web"), {"uuid": OTHER, "state": "absent"}]
    planned = platform.run(declared, check=True)
    assert errors(planned) == [None, None] and summary(planned.outcomes, True) == "create 1, remove 1"
    done = platform.run(declared)
    assert errors(done) == [None, None] and summary(done.outcomes, False) == "created 1, removed 1"
    assert list(platform.vms) == [jids.vm_uuid("web", DOMAIN)]


def test_one_machine_is_not_declared_twice():
    platform = Platform(("web", "hv1", "stopped"))
    uuid = jids.vm_uuid("web", DOMAIN)
    done = platform.run([{"name": "web", "state": "running"}, {"uuid": uuid, "state": "stopped"}])
    assert errors(done) == [None, f"'web' and '{uuid}' are declarations of one virtual machine, {uuid}"]


def test_who_depends_on_what_failed_is_not_begun_and_the_others_are():
    platform = Platform()
    platform.broken.add("db")
    vms = [new("web", depends_on=["app"]), new("app", "hv2", depends_on=["db"]), new("db"), new("mail")]
    done = platform.run(vms)
    assert errors(done) == [
        "'web' was not begun: it needs 'app', which failed",
        "'app' was not begun: it needs 'db', which failed",
        "'db' on hv1: it is broken",
        None,
    ]
    assert summary(done.outcomes, False) == "created 1, failed 1, not begun 2"


@pytest.mark.parametrize("comes_up", [True, False])
def test_one_that_runs_and_has_not_come_up_is_waited_for(comes_up):
    platform = Platform(("db", "hv1", "running"), ("web", "hv1", "stopped"))
    result, asked = platform._result, []

    def waiting(node, one, apply):
        if one["name"] != "db":
            return result(node, one, apply)
        asked.append((apply, one["wait_for"], one["start_delay"]))
        if not apply:
            return {**result(node, one, apply), "waits": True}
        return {"uuid": one["uuid"], **({} if comes_up else {"error": "its guest agent has not connected"})}

    platform._result = waiting
    vms = [
        {"name": "web", "state": "running", "depends_on": ["db"]},
        {"name": "db", "state": "running", "wait_for": "guest_agent"},
    ]
    checked = platform.run(vms, check=True)
    assert summary(checked.outcomes, True) == "start 1, unchanged 1"
    assert platform.asked(declaration.APPLY) == []
    done = platform.run(vms)
    assert asked == [(apply, "guest_agent", 0.0) for apply in (False, False, True)]
    if comes_up:
        assert summary(done.outcomes, False) == "started 1, unchanged 1"
        assert platform.asked(declaration.APPLY) == [("hv1", ["db"]), ("hv1", ["web"])]
    else:
        reason = "'db' on hv1: its guest agent has not connected"
        assert errors(done) == ["'web' was not begun: it needs 'db', which failed", reason]
        assert platform.vms[jids.vm_uuid("web", DOMAIN)]["state"] == "stopped"


def test_on_error_stop_begins_nothing_more():
    platform = Platform()
    platform.broken.add("a")
    done = platform.run([new("a"), new("b", boot_group=1), new("c", boot_group=2)], stop=True)
    assert errors(done) == [
        "'a' on hv1: it is broken",
        "'b' was not begun: on_error is stop, and 'a' failed",
        "'c' was not begun: on_error is stop, and 'a' failed",
    ]
    assert platform.asked(declaration.APPLY) == [("hv1", ["a"])]


def test_an_offline_agent_fails_its_machines_and_no_others():
    platform = Platform(("here", "hv1", "stopped"), ("moves", "hv1", "running"), ("there", "hv2", "stopped"))
    platform.offline.add("hv2")
    vms = [{"name": "here", "state": "running"}, {"name": "moves", "hypervisor": "hv2"}, {"name": "there"}]
    done = platform.run(vms)
    assert errors(done) == [
        None,
        "'moves' is on hv1 and cannot move to hv2: the agent of hv2 is offline",
        "'there' was found nowhere, but may be on hv2, so nothing is done: the agent of hv2 is offline; "
        "what is lost for good is named in assume_lost",
    ]
    assert list(done.silent) == []


PURGED = (
    ("kept", "hv1", "running", "t"),
    ("old", "hv1", "running", "t"),
    ("off", "hv2", "stopped", "t"),
    ("x", "hv1", "running"),
)


@pytest.mark.parametrize(
    ("purge", "scope", "undeclared", "left"),
    [
        ("report", None, ["old", "x", "off"], {"kept": "running", "old": "running", "off": "stopped", "x": "running"}),
        (
            "stop",
            {"tags": ["t"]},
            ["old", "off"],
            {"kept": "running", "old": "stopped", "off": "stopped", "x": "running"},
        ),
        ("remove", {"tags": ["t"]}, ["old", "off"], {"kept": "running", "x": "running"}),
        ("remove", {"hypervisors": ["hv1"]}, ["old", "x"], {"kept": "running", "off": "stopped"}),
        (
            "remove",
            {"hypervisors": ["hv1"], "tags": ["t"]},
            ["old"],
            {"kept": "running", "off": "stopped", "x": "running"},
        ),
        ("remove", {"tags": ["u"]}, [], {"kept": "running", "old": "running", "off": "stopped", "x": "running"}),
        ("remove", {"tags": ["u", " t"]}, ["old", "off"], {"kept": "running", "x": "running"}),
    ],
)
def test_purge_keeps_to_its_scope(purge, scope, undeclared, left):
    platform = Platform(*PURGED)
    options = {"purge": purge, "purge_limit": 2, "scope": scope and {"tags": None, "hypervisors": None, **scope}}
    planned = platform.run([{"name": "kept"}], check=True, **options)
    assert len(platform.vms) == len(PURGED)
    done = platform.run([{"name": "kept"}], **options)
    assert errors(done) == [None] * len(done.outcomes)
    assert [vm["name"] for vm in done.undeclared] == undeclared
    assert {vm["name"]: vm["state"] for vm in platform.vms.values()} == left
    assert [one.diff for one in planned.outcomes] == [one.diff for one in done.outcomes]
    assert summary(planned.outcomes, True).replace("stop ", "stopped ").replace("remove ", "removed ") == summary(
        done.outcomes, False
    )


def test_purge_refuses_beyond_its_limit_before_anything_changes():
    platform = Platform(*PURGED)
    with pytest.raises(Conflict) as caught:
        platform.run([new("kept")], purge="remove", purge_limit=1, scope={"tags": ["t"], "hypervisors": None})
    assert caught.value.message == (
        "purge_limit: 2 virtual machines are not declared, at most 1 may be removed, so nothing was done: "
        "off on hv2, old on hv1"
    )
    assert platform.log == [] and len(platform.vms) == 4


def test_purge_does_not_know_what_is_on_a_silent_hypervisor_of_its_scope():
    platform = Platform(*PURGED)
    platform.offline.add("hv2")
    done = platform.run([{"name": "kept"}], purge="report", scope={"tags": ["t"], "hypervisors": None})
    assert done.silent == [{"hypervisor": "hv2", "reason": "the agent of hv2 is offline"}]
    done = platform.run([{"name": "kept"}], purge="report", scope={"tags": None, "hypervisors": ["hv1"]})
    assert done.silent == []


@pytest.mark.parametrize(
    ("limit", "done", "undeclared"),
    [
        ({"hypervisors": ["hv1"]}, ["kept", "moves"], ["old", "x"]),
        ({"tags": ["t"]}, ["kept"], ["old"]),
        ({"names": ["k*", "o*"]}, ["kept", "off"], ["old"]),
        ({"names": ["k*"], "hypervisors": ["hv2"]}, [], []),
        ({"names": ["k*", " o*"], "tags": ["u", " t"], "hypervisors": ["hv2", " hv1"]}, ["kept"], ["old"]),
        ({}, ["kept", "moves", "off", "nowhere"], ["old", "x"]),
    ],
)
def test_a_limit_leaves_the_other_declarations_alone(limit, done, undeclared):
    """They are declared all the same: nothing happens to their machines."""
    platform = Platform(*PURGED, ("moves", "hv2", "running"))
    declared = [
        {"name": "kept", "hypervisor": "hv1", "tags": ["t"]},
        {"name": "moves", "hypervisor": "hv1", "depends_on": ["off"]},
        {"name": "off", "hypervisor": "hv2", "state": "running"},
        {"name": "nowhere", "state": "absent"},
    ]
    full = {"tags": None, "hypervisors": None, "names": None, **limit}
    found = platform.run(declared, check=True, limit=full, purge="report")
    assert [outcome.name for outcome in found.outcomes] == done
    assert [vm["name"] for vm in found.undeclared] == undeclared


def test_a_limit_is_one_to_what_a_silent_hypervisor_may_have_too():
    platform = Platform(*PURGED)
    platform.offline.add("hv2")
    full = {"tags": None, "hypervisors": ["hv1"], "names": None}
    assert platform.run([{"name": "kept"}], limit=full, purge="report").silent == []


def test_a_limit_that_nobody_is_in_is_told():
    platform = Platform(*PURGED)
    full = {"tags": None, "hypervisors": None, "names": ["wbe-*"]}
    for purge in ("none", "report"):
        found = platform.run([new("web-1"), new("web-2")], limit=full, purge=purge)
        assert (found.outcomes, found.warning) == ([], "limit: leaves none of the 2 declarations")
        assert platform.run([], limit=full, purge=purge).warning == ""
        assert platform.run([{"name": "kept"}], limit={**full, "names": ["k*"]}, purge=purge).warning == ""
    assert summary([], True) == "nothing is declared"
    assert summary([], True, "nothing is meant") == "nothing is meant"


@pytest.mark.parametrize("purge", ["none", "report"])
def test_a_limit_to_a_hypervisor_that_there_is_not_is_refused(purge):
    with pytest.raises(HypervisorUnknown, match="limit.hypervisors: 'hv9' is not a hypervisor of this platform; there"):
        Platform(*PURGED).run(
            [new("kept")], purge=purge, limit={"tags": None, "hypervisors": ["hv1", "hv9"], "names": None}
        )


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        ({"tags": ["t"]}, ["kept", "old", "off"]),
        ({"tags": ["t"], "hypervisors": ["hv1"]}, ["kept", "old"]),
        ({"states": ["stopped"]}, ["off"]),
        ({"names": ["o*", "x"]}, ["old", "x", "off"]),
        ({"names": ["*"], "tags": ["nobody"]}, []),
        # As Ansible takes "old, x" and "hv1, hv2 ," apart.
        ({"names": ["old", " x"]}, ["old", "x"]),
        ({"hypervisors": ["hv1", " hv2 ", ""], "tags": ["u", " t"]}, ["kept", "old", "off"]),
    ],
)
def test_selector(selector, names):
    platform = Platform(*PURGED)
    full = {"tags": None, "hypervisors": None, "states": None, "names": None, **selector}
    done = platform.run(selector=full, state="paused")
    assert [outcome.name for outcome in done.outcomes] == names
    assert {vm["name"] for vm in platform.vms.values() if vm["state"] == "paused"} == set(names)


def test_a_group_moves_where_it_is_told_to():
    platform = Platform(*PURGED)
    selector = {"tags": ["t"], "hypervisors": None, "states": None, "names": None}
    done = platform.run(selector=selector, hypervisor="hv2")
    assert summary(done.outcomes, False) == "moved 2, unchanged 1"
    with pytest.raises(HypervisorUnknown, match="selector.hypervisors: 'hv9' is not a hypervisor"):
        platform.run(selector={**selector, "hypervisors": ["hv9"]}, state="running")


def test_a_restart_that_is_needed_is_told():
    platform = Platform(("a", "hv1", "running"), ("b", "hv1", "running"))
    result = platform._result
    platform._result = lambda node, one, apply: {**result(node, one, apply), "restart_required": ["memory"]}
    done = platform.run([{"name": "a", "memory": "2GiB"}, {"name": "b"}], check=True)
    assert summary(done.outcomes, True) == "change 1 (1 needs a restart), unchanged 1 (1 needs a restart)"


def test_what_libvirt_leaves_out_is_a_warning_on_every_run():
    platform = Platform(("a", "hv1", "running"))
    result = platform._result
    platform._result = lambda node, one, apply: {**result(node, one, apply), "ignored": ["devices/dsk", "os/a/@b"]}
    for check in (True, False, False):
        (outcome,) = platform.run([{"name": "a", "memory": "2GiB"}], check=check).outcomes
        assert outcome.warning == "'a' on hv1: libvirt does not keep what is declared at devices/dsk, os/a/@b"
    assert not outcome.changed


def test_the_difference_in_xml_is_asked_for_and_shown_below_the_other():
    platform = Platform(("a", "hv1", "running"))
    result = platform._result
    platform._result = lambda node, one, apply: {
        **result(node, one, apply),
        **({"xml": "-old\n+new"} if one.get("show_xml") else {}),
    }
    specs = [element(name="a", memory="2GiB")]
    agents = Agents(Client(platform.answer))
    (plain,) = converge(agents, specs, Manner(check=True))
    (verbose,) = converge(agents, specs, Manner(check=True, show_xml=True))
    assert "prepared" not in plain.diff
    assert verbose.diff == {**plain.diff, "prepared": "-old\n+new\n"}
