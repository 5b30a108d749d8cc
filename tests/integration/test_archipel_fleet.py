# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""A repository of many machines on the platform: drift behind its back is reported exactly and mended at once, and a
converge that is killed ends right on the next run.

ARCHIPEL_FLEET_KILLS says how often (default: few), ARCHIPEL_FAULT_SEED where.
"""

from __future__ import annotations

import os
import random

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


# OWN is the interface that a machine was made with, MADE all that it was made of.
OWN, MADE = object(), object()
OTHER = {"mac": "52:54:00:00:00:01", "model": "virtio", "network": "default"}
_MEMORY = "virsh setmaxmem {0} 48M --config && virsh setmem {0} 48M --config"
_INTERFACE = "virsh attach-interface {0} network default --model virtio --mac %s --config" % OTHER["mac"]
# What virsh does to a machine, and what is said of it: in the table, and its options before and after.
DRIFT = [
    ("virsh undefine {0}", "define, set tags", {}, MADE),
    (_MEMORY, "define (memory)", {"memory": "48MiB"}, {"memory": "32MiB"}),
    ("virsh setvcpus {0} 2 --maximum --config", "define (max_vcpus)", {"max_vcpus": 2}, {}),
    ("virsh desc {0} --title --config another", "define (title)", {"title": "another"}, {"title": "one of many"}),
    ("virsh autostart {0}", "unset autostart", {"autostart": True}, {"autostart": False}),
    ("virsh metadata {0} --uri archipel:tags --remove --config", "set tags", {"tags": []}, {"tags": ["fleet"]}),
    ("virsh detach-interface {0} network --config", "define (networks)", {}, {"networks": [OWN]}),
    (_INTERFACE, "define (networks)", {"networks": [OWN, OTHER]}, {"networks": [OWN]}),
    ("virsh start {0} --paused", "resume, shut down", {"state": "paused"}, {"state": "stopped"}),
    ("virsh destroy {0}", "start", {"state": "stopped"}, {"state": "running"}),
]
# The last of them is to be running.
RUNS = len(DRIFT) - 1
DONE = f"created 1, changed 7, started 1, stopped 1, unchanged {SIZE - len(DRIFT)}"
PLAN = f"create 1, change 7, start 1, stop 1, unchanged {SIZE - len(DRIFT)}"


def told(options: dict, made: dict) -> dict:
    """Options of DRIFT, of the machine that was made so."""
    if options is MADE:
        return made
    networks = [made["networks"][0] if one is OWN else one for one in options.get("networks", [])]
    return {**options, **({"networks": networks} if networks else {})}


def test_drift_of_a_fleet_is_reported_exactly_and_mended_at_once(platform, repository):
    vms = declared(platform, SIZE)
    vms[RUNS]["state"] = "running"
    repository.declare(vms)

    made = repository.converge()
    assert made["summary"] == f"created {SIZE}", made["msg"]
    again = repository.converge()
    assert not again["changed"] and again["summary"] == f"unchanged {SIZE}"
    code, report, output = repository.drift()
    assert code == 0 and report["summary"] == f"no drift: {SIZE} virtual machines are as they are declared", output

    for number, (command, *dummy) in enumerate(DRIFT):
        name, host = vms[number]["name"], vms[number]["hypervisor"]
        platform.run(host, f"set -e; {command.format(name)} >/dev/null")

    code, report, output = repository.drift()
    drifted = list(zip(vms, made["vms"], DRIFT))
    found = [(one["name"], one["before"], one["after"], one["error"]) for one in report["vms"]]
    assert found == [
        (vm["name"], told(before, one["diff"]["after"]), told(after, one["diff"]["after"]), "")
        for vm, one, (dummy, dummy, before, after) in drifted
    ]
    rows = [
        (vm["name"], "-" if after is MADE else vm["hypervisor"], words)
        for vm, dummy, (*dummy, words, dummy, after) in drifted
    ]
    lines = ["{:<15}  {:<10}  {}".format(*row) for row in [("VIRTUAL MACHINE", "HYPERVISOR", "DRIFT"), *rows]]
    summary = f"{len(DRIFT)} of {SIZE} virtual machines drifted: {', '.join(names(len(DRIFT)))}"
    assert report["table"].splitlines() == [*lines, "", summary]
    assert (report["compared"], report["drifted"], report["unknown"]) == (SIZE, len(DRIFT), 0)
    assert report["undeclared"] == report["silent"] == []
    # It is told, and counts.
    assert code == 2 and lines[-1] in output and f"plan: {PLAN}" in output, output

    # Within a limit: what is declared there, and what is not declared any more.
    host = vms[-1]["hypervisor"]
    repository.declare(vms[:-1])
    limit = f"archipel_limit_names=fleet-00?,{vms[-1]['name']}"
    code, report, output = repository.drift("-e", limit, "--limit", host)
    assert code == 2 and [one["name"] for one in report["vms"]] == [row[0] for row in rows if row[1] == host], output
    undeclared = {"name": vms[-1]["name"], "hypervisor": host, "state": "stopped", "actions": [], "error": ""}
    assert report["undeclared"] == [undeclared] and report["compared"] == len(report["vms"])
    repository.declare(vms)

    code, output = repository.play("converge")
    assert code == 0 and f"done: {DONE}" in output, output
    again = repository.converge()
    assert not again["changed"] and again["summary"] == f"unchanged {SIZE}"
    assert repository.drift()[0] == 0


COUNT = 24
# What the first machines are in the rounds of kills; the others are off.
ACTIVE = ("running", "running", "paused", "paused")


def rounds(platform) -> list[list[dict]]:
    """What is declared in turn: machines; moves and changes; half of them gone, the others not declared any more."""
    hosts = platform.hypervisors[:2]
    made = declared(platform, COUNT)
    for vm, state in zip(made, ACTIVE):
        vm["state"] = state
    # One each that runs, is paused, and is off, moves. What is not off keeps its memory: it needed a restart.
    moved = {0, 2, 4, 5}
    changed = [
        {
            **vm,
            **({"hypervisor": hosts[number % 2 - 1]} if number in moved else {}),
            **({} if number < len(ACTIVE) else {"memory": "48MiB"}),
        }
        for number, vm in enumerate(made)
    ]
    return [made, changed, [{"name": vm["name"], "state": "absent"} for vm in made[::2]]]


def expected(vms: list[dict]) -> dict[str, tuple[str, str, str]]:
    """Where each machine is to be, with how much memory in its definition, and in which state, in virsh's words."""
    words = {"running": "running", "paused": "paused", "stopped": "shut off"}
    merged = [{**DEFAULTS, **vm} for vm in vms]
    return {
        vm["name"]: (vm["hypervisor"], str(int(vm["memory"].removesuffix("MiB")) << 10), words[vm["state"]])
        for vm in merged
        if vm["state"] != "absent"
    }


# One that is being moved or removed may be gone between two looks, and is not told then.
LOOK = r"""for name in $(virsh list --all --name | grep ^fleet-); do
    xml=$(virsh dumpxml --inactive $name) && state=$(virsh domstate $name) &&
    echo $name $(echo "$xml" | sed -n 's,.*<memory[^>]*>\([0-9]*\)<.*,\1,p') $state
done 2>/dev/null"""


def present(platform) -> dict[str, tuple[str, str, str]]:
    """The same of what libvirt has."""
    found = {}
    for host in platform.hypervisors[:2]:
        for line in platform.run(host, LOOK, check=False).splitlines():
            name, memory, state = line.split(maxsplit=2)
            found[name] = (host, memory, state)
    return found


@pytest.fixture
def purging(platform, tmp_path):
    """A repository in which what is not declared is removed, and few machines are worked on at the same time."""
    few = {"max_parallel_per_hypervisor": 2, "max_migrations": 2}
    purge = {"purge": "remove", "purge_limit": COUNT, "scope": {"tags": DEFAULTS["tags"]}}
    found = Repository(platform, tmp_path, DEFAULTS, **few, **purge)
    yield found
    found.close()
    found.declare([{"name": name, "state": "absent"} for name in names(COUNT)])
    assert not found.converge().get("failed")
    World(platform).settled()


def test_a_converge_that_is_killed_ends_right_on_the_next_run(platform, purging):
    """Machines are made, changed, moved and removed; each time it is killed somewhere, and then let go to its end."""
    chance = random.Random(SEED)
    before: dict[str, tuple[str, str, str]] = {}
    half_done = 0
    for number in range(KILLS):
        wanted = rounds(platform)[number % 3]
        after = expected(wanted)
        purging.declare(wanted)
        touched = {name for name in {*before, *after} if before.get(name) != after.get(name)}
        killed = purging.interrupt(chance.randrange(len(touched) // 3), chance.uniform(0, 0.2))
        found = present(platform)
        done = {name for name in touched if found.get(name) == after.get(name)}
        half_done += killed and 0 < len(done) < len(touched)
        print(f"round {number}: {'killed' if killed else 'ended by itself'} with {len(done)} of {len(touched)} done")
        outcome = purging.converge()
        assert not outcome.get("failed"), outcome["msg"]
        again = purging.converge()
        assert not again["changed"], [vm for vm in again["vms"] if vm["changed"]]
        assert present(platform) == after
        World(platform).settled()
        before = after
    # Where it is killed before it does anything, or is through, there is nothing to see.
    assert half_done
