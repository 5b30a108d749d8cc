# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of a drift, as people and programs read it."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.archipel.platform.plugins.filter.drift import FilterModule

drift = FilterModule().filters()["drift"]


def vm(name, hypervisor="hv1", **more):
    return {"name": name, "changed": False, "actions": [], "vm": {"hypervisor": hypervisor}, **more}


def changed(name, *actions, **more):
    return vm(name, changed=True, actions=list(actions), **more)


BEFORE = {"memory": "1GiB", "tags": [], "state": "stopped"}
AFTER = {"memory": "2GiB", "tags": ["web"], "state": "running", "title": "a title"}
DIFF = {"before": BEFORE, "after": AFTER}
WEB = changed("web-server", "define", "set tags", "start", diff=DIFF)
PENDING = "memory changes from 1GiB to 2GiB at the next start"


def test_no_drift_is_a_sentence():
    report = drift({"vms": [vm("web"), vm("db")], "diff": []})
    assert report["table"] == report["summary"] == "no drift: 2 virtual machines are as they are declared"
    assert (report["compared"], report["drifted"], report["unknown"], report["vms"]) == (2, 0, 0, [])
    assert report["pending"] == 0


def test_no_comparison_is_no_word_of_praise():
    report = drift({"vms": [], "diff": []})
    assert report["table"] == "nothing was compared: no virtual machine is declared, or a limit leaves none"


def test_what_waits_for_its_next_start_is_told():
    """Its definition is as declared; what runs is not. Of what differs as well, both are."""
    both = changed("both", "define", restart_required=[PENDING], diff={"before": {"memory": 1}, "after": {"memory": 2}})
    report = drift({"vms": [vm("web"), vm("db", "hv2", restart_required=[PENDING]), both]})
    assert report["table"].splitlines() == [
        "VIRTUAL MACHINE  HYPERVISOR  DRIFT",
        f"db               hv2         {PENDING}",
        f"both             hv1         define (memory), {PENDING}",
        "",
        "1 of 3 virtual machines drifted: both; 1 of 3 need a restart to be as they are declared: db",
    ]
    assert (report["drifted"], report["pending"], report["unknown"]) == (1, 1, 0)
    assert [(one["name"], one["restart_required"]) for one in report["vms"]] == [("db", [PENDING]), ("both", [PENDING])]


def test_two_of_one_name_are_told_apart():
    """One of them is to be gone, the other to have its name."""
    new = changed("web", "define", vm={}, diff={"before": {}, "after": {"memory": "1GiB"}})
    gone = changed("web", "undefine", vm={"hypervisor": "hv2"}, diff={"before": {"state": "stopped"}, "after": {}})
    report = drift({"vms": [new, gone], "diff": [{**one["diff"], "before_header": "web"} for one in (new, gone)]})
    assert [(one["hypervisor"], one["before"], one["after"]) for one in report["vms"]] == [
        ("", {}, {"memory": "1GiB"}),
        ("hv2", {"state": "stopped"}, {}),
    ]


def test_what_differs_is_a_line_each():
    failed = vm("db", error="'db' on hv2: the agent of hv2 is offline", vm={})
    report = drift({"vms": [vm("same"), WEB, changed("new", "define", vm={}), failed]})
    assert report["table"].splitlines() == [
        "VIRTUAL MACHINE  HYPERVISOR  DRIFT",
        "web-server       hv1         define (memory, title), set tags, start",
        "new              -           define",
        "db               -           not known: 'db' on hv2: the agent of hv2 is offline",
        "",
        "2 of 4 virtual machines drifted: web-server, new; 1 could not be compared: db",
    ]
    assert (report["drifted"], report["unknown"]) == (2, 1)
    assert report["vms"][0] == {
        "name": "web-server",
        "hypervisor": "hv1",
        "actions": ["define", "set tags", "start"],
        "before": BEFORE,
        "after": AFTER,
        "restart_required": [],
        "error": "",
    }


def test_who_is_not_declared_and_who_is_silent_is_a_line_each():
    gone = changed("gone", "undefine", vm={"hypervisor": "hv1", "uuid": "u1"})
    undeclared = [
        {"name": "gone", "uuid": "u1", "hypervisor": "hv1", "state": "stopped"},
        {"name": "old", "uuid": "u2", "hypervisor": "hv2", "state": "running"},
    ]
    silent = [{"hypervisor": "hv3", "reason": "the agent of hv3 is offline"}]
    report = drift({"vms": [vm("web"), gone], "diff": [], "undeclared": undeclared, "silent": silent})
    assert report["table"].splitlines() == [
        "VIRTUAL MACHINE  HYPERVISOR  DRIFT",
        "gone             hv1         not declared, stopped, undefine",
        "old              hv2         not declared, running",
        "-                hv3         not known: the agent of hv3 is offline",
        "",
        "no drift: 1 virtual machines are as they are declared; 2 not declared: gone, old; hv3 did not answer",
    ]
    assert (report["compared"], report["drifted"], report["vms"], report["silent"]) == (1, 0, [], silent)
    assert report["undeclared"] == [
        {"name": "gone", "hypervisor": "hv1", "state": "stopped", "actions": ["undefine"], "error": ""},
        {"name": "old", "hypervisor": "hv2", "state": "running", "actions": [], "error": ""},
    ]


def test_without_actions_the_options_are_named():
    report = drift({"vms": [changed("web-server", diff=DIFF)]})
    assert report["table"].splitlines()[1].endswith("  memory, state, tags, title")


@pytest.mark.parametrize("result", [{"failed": True, "msg": "refused"}, "text", None])
def test_another_result_is_refused(result):
    with pytest.raises(AnsibleFilterError, match="not the result of archipel_fleet"):
        drift(result)
