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


WEB = changed("web-server", "change memory", "start")
DIFF = {"before_header": "web-server", "before": {"memory": "1GiB"}, "after": {"memory": "2GiB"}}


def test_no_drift_is_a_sentence():
    report = drift({"vms": [vm("web"), vm("db")], "diff": []})
    assert report["table"] == report["summary"] == "no drift: 2 virtual machines are as they are declared"
    assert (report["compared"], report["drifted"], report["unknown"], report["vms"]) == (2, 0, 0, [])


def test_what_differs_is_a_line_each():
    failed = vm("db", error="'db' on hv2: the agent of hv2 is offline", vm={})
    report = drift({"vms": [vm("same"), WEB, changed("new", "define", vm={}), failed], "diff": [DIFF]})
    assert report["table"].splitlines() == [
        "VIRTUAL MACHINE  HYPERVISOR  DRIFT",
        "web-server       hv1         change memory, start",
        "new              -           define",
        "db               -           not known: 'db' on hv2: the agent of hv2 is offline",
        "",
        "2 of 4 virtual machines drifted: web-server, new; 1 could not be compared: db",
    ]
    assert (report["drifted"], report["unknown"]) == (2, 1)
    assert report["vms"][0] == {
        "name": "web-server",
        "hypervisor": "hv1",
        "actions": ["change memory", "start"],
        "before": {"memory": "1GiB"},
        "after": {"memory": "2GiB"},
        "error": "",
    }


@pytest.mark.parametrize("diff", [DIFF, [DIFF]])
def test_without_actions_the_options_are_named(diff):
    report = drift({"vms": [changed("web-server")], "diff": diff})
    assert report["table"].splitlines()[1].endswith("  memory")


@pytest.mark.parametrize("result", [{"failed": True, "msg": "refused"}, "text", None])
def test_another_result_is_refused(result):
    with pytest.raises(AnsibleFilterError, match="not the result of archipel_fleet"):
        drift(result)
