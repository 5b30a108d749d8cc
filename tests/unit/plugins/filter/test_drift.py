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


WEB = changed("web-server", "define", "set tags", "start")
BEFORE = {"memory": "1GiB", "tags": [], "state": "stopped"}
AFTER = {"memory": "2GiB", "tags": ["web"], "state": "running", "title": "a title"}
DIFF = {"before_header": "web-server", "before": BEFORE, "after": AFTER}


def test_no_drift_is_a_sentence():
    report = drift({"vms": [vm("web"), vm("db")], "diff": []})
    assert report["table"] == report["summary"] == "no drift: 2 virtual machines are as they are declared"
    assert (report["compared"], report["drifted"], report["unknown"], report["vms"]) == (2, 0, 0, [])


def test_what_differs_is_a_line_each():
    failed = vm("db", error="'db' on hv2: the agent of hv2 is offline", vm={})
    report = drift({"vms": [vm("same"), WEB, changed("new", "define", vm={}), failed], "diff": [DIFF]})
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


@pytest.mark.parametrize("diff", [DIFF, [DIFF]])
def test_without_actions_the_options_are_named(diff):
    report = drift({"vms": [changed("web-server")], "diff": diff})
    assert report["table"].splitlines()[1].endswith("  memory, state, tags, title")


@pytest.mark.parametrize("result", [{"failed": True, "msg": "refused"}, "text", None])
def test_another_result_is_refused(result):
    with pytest.raises(AnsibleFilterError, match="not the result of archipel_fleet"):
        drift(result)
