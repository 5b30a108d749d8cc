# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""A repository of many machines on the platform: drift behind its back is reported exactly and mended at once, and a
converge that is killed ends right on the next run.

ARCHIPEL_FLEET_KILLS says how often (default: few), ARCHIPEL_FAULT_SEED where.
"""

from __future__ import annotations

import os
import random
import time

import pytest
from fault_world import World
from repository import Repository

SIZE = 200
KILLS = int(os.environ.get("ARCHIPEL_FLEET_KILLS", "3"))
SEED = int(os.environ.get("ARCHIPEL_FAULT_SEED", "20261121"))
DEFAULTS = {
    "state": "stopped",
    "memory": "32MiB",
    "vcpus": 1,
    "title": "one of many",
    "autostart": False,
    "networks": [{"network": "default"}],
    "tags": ["fleet"],
    "force": True,
    "shutdown_timeout": 1,
}


def names(count: int) -> list[str]:
    return [f"fleet-{number:03}" for number in range(count)]


def declared(platform, count: int, **more) -> list[dict]:
    """``count`` machines, taking turns on the hypervisors."""
    hosts = platform.hypervisors[:2]
    return [{"name": name, "hypervisor": hosts[number % 2], **more} for number, name in enumerate(names(count))]


@pytest.fixture
def repository(platform, tmp_path):
    """A repository, whose machines are gone afterwards."""
    found = Repository(platform, tmp_path, DEFAULTS)
    yield found
    found.declare([{"name": name, "state": "absent"} for name in names(SIZE)])
    assert not found.converge().get("failed")
    World(platform).settled()


# What virsh does to a machine, and what the plan says to it: the kind, before and after, None for a term without value.
DRIFT = [
    ("virsh undefine {0}", "create", {}, None),
    (
        "virsh setmaxmem {0} 48M --config && virsh setmem {0} 48M --config",
        "change",
        {"memory": "48MiB"},
        {"memory": "32MiB"},
    ),
    ("virsh setvcpus {0} 2 --maximum --config", "change", {"max_vcpus": 2}, {}),
    ("virsh desc {0} --title --config another", "change", {"title": "another"}, {"title": "one of many"}),
    ("virsh autostart {0}", "change", {"autostart": True}, {"autostart": False}),
    ("virsh metadata {0} --uri archipel:tags --remove --config", "change", {"tags": []}, {"tags": ["fleet"]}),
    ("virsh detach-interface {0} network --config", "change", None, None),
    ("virsh attach-interface {0} network default --config", "change", None, None),
    ("virsh start {0} --paused", "stop", {"state": "paused"}, {"state": "stopped"}),
    ("virsh destroy {0}", "start", {"state": "stopped"}, {"state": "running"}),
]
# The last of them is to be running.
RUNS = len(DRIFT) - 1


def test_drift_of_a_fleet_is_reported_exactly_and_mended_at_once(platform, repository):
    vms = declared(platform, SIZE)
    vms[RUNS]["state"] = "running"
    repository.declare(vms)

    made = repository.converge()
    assert made["summary"] == f"created {SIZE}", made["msg"]
    again = repository.converge()
    assert not again["changed"] and again["summary"] == f"unchanged {SIZE}"

    for number, (command, *dummy) in enumerate(DRIFT):
        name, host = vms[number]["name"], vms[number]["hypervisor"]
        platform.run(host, f"set -e; {command.format(name)} >/dev/null")

    plan = repository.converge(check=True)
    counts = {kind: sum(one == kind for dummy, one, *dummy in DRIFT) for kind in ("create", "change", "start", "stop")}
    assert plan["counts"] == {**counts, "unchanged": SIZE - len(DRIFT)}, plan["vms"]
    assert plan["summary"] == f"create 1, change 7, start 1, stop 1, unchanged {SIZE - len(DRIFT)}"
    drifted = [vm for vm in plan["vms"] if vm["changed"]]
    assert [vm["name"] for vm in drifted] == names(len(DRIFT))
    for vm, (command, kind, before, after) in zip(drifted, DRIFT):
        if after is not None:
            assert vm["diff"] == {"before": before, "after": after}, (command, kind)
        assert vm["diff"]["before"] != vm["diff"]["after"]

    mended = repository.converge()
    assert [vm["diff"] for vm in mended["vms"]] == [vm["diff"] for vm in plan["vms"]]
    assert [vm["actions"] for vm in mended["vms"] if "power off" not in vm["actions"]] == [
        vm["actions"] for vm, done in zip(plan["vms"], mended["vms"]) if "power off" not in done["actions"]
    ]
    again = repository.converge()
    assert not again["changed"] and again["summary"] == f"unchanged {SIZE}"


def test_a_converge_that_is_killed_ends_right_on_the_next_run(platform, repository):
    """The same machines are made, changed and removed; each time it is killed somewhere, and then let go to its end."""
    count = 24
    rounds = [
        declared(platform, count),
        declared(platform, count, memory="48MiB"),
        declared(platform, count, state="absent"),
    ]
    repository.declare(rounds[2])
    start = time.monotonic()
    repository.converge()
    # So long a run takes that has nothing to do: those of the test are killed before, meanwhile and after.
    span = (time.monotonic() - start) * 2
    chance = random.Random(SEED)
    for number in range(KILLS):
        wanted = rounds[number % len(rounds)]
        repository.declare(wanted)
        killed = repository.interrupt(chance.uniform(0.3, 1) * span)
        print(f"round {number}: {'killed' if killed else 'ended by itself'}")
        done = repository.converge()
        assert not done.get("failed"), done["msg"]
        again = repository.converge()
        assert not again["changed"], [vm for vm in again["vms"] if vm["changed"]]
        gone = wanted is rounds[2]
        found = {}
        for host in platform.hypervisors[:2]:
            for name in platform.run(host, "virsh list --all --name").split():
                if name in names(count):
                    found[name] = (host, platform.run(host, f"virsh dominfo {name}").split("Max memory:")[1].split()[0])
        memory = str(int(wanted[0].get("memory", DEFAULTS["memory"]).removesuffix("MiB")) << 10)
        assert found == ({} if gone else {vm["name"]: (vm["hypervisor"], memory) for vm in wanted})
        World(platform).settled()
