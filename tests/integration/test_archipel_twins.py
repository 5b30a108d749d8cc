# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Two ask for the same new machine at the same moment: there is one of it, whichever of them it is for."""

from __future__ import annotations

import json
import threading
import uuid as uuidlib
from concurrent.futures import ThreadPoolExecutor
from xml.sax.saxutils import escape

import pytest
from fault_world import DECLARATION, MACHINE, RUNNING, World
from playing import play

ROUNDS = 3


@pytest.fixture(scope="module")
def world(platform):
    return World(platform)


@pytest.fixture
def machine(world):
    """(name, UUID) of a machine that nobody has made yet."""
    uuid = str(uuidlib.uuid4())
    name = "twin-" + uuid[:8]
    yield name, uuid
    world.remove(uuid, name)
    world.settled()


def both(work, *each):
    """What ``work(one, go)`` returns for each of two, which call ``go()`` when they are ready to begin."""
    barrier = threading.Barrier(len(each), timeout=60)
    with ThreadPoolExecutor() as beside:
        return [one.result() for one in [beside.submit(work, one, barrier.wait) for one in each]]


def test_an_agent_makes_it_once(world, machine):
    name, uuid = machine
    found = both(lambda host, go: _apply(world, host, name, uuid, go), world.hosts[0], world.hosts[0])
    assert [one.get("error") for one in found] == [None, None]
    assert sorted("define" in one.get("actions", []) for one in found) == [False, True]
    assert world.settled().state(uuid) == RUNNING


@pytest.mark.parametrize("number", range(ROUNDS))
def test_one_of_two_agents_makes_it(world, machine, number):
    """Both are asked past the modules, which would have looked at the other one first."""
    name, uuid = machine
    found = dict(zip(world.hosts, both(lambda host, go: _apply(world, host, name, uuid, go), *world.hosts)))
    (here,) = [host for host, one in found.items() if "error" not in one]
    assert f"{here} makes it at this moment" in found[world.other(here)]["error"]
    truth = world.settled()
    assert (truth.places(uuid), truth.state(uuid)) == ([here], RUNNING)
    assert _apply(world, here, name, uuid) == {"uuid": uuid}


@pytest.mark.parametrize("hosts", [(0, 0), (0, 1)], ids=["one hypervisor", "two hypervisors"])
def test_two_playbooks_make_it_once(world, machine, tmp_path, hosts):
    name, uuid = machine

    def declare(number, go=lambda: None):
        go()
        vm = {"name": name, "uuid": uuid, "hypervisor": world.hosts[hosts[number]], "state": "running"}
        return play(world.platform, tmp_path / f"{number}.yml", **vm, memory="32MiB")

    done = both(declare, 0, 1)
    # Who comes a little later finds it, and moves it where it is declared on another hypervisor.
    assert any(one.returncode == 0 for one in done), "\n".join(one.stdout + one.stderr for one in done)
    for one in done:
        assert one.returncode == 0 or name in one.stdout
        assert "Traceback" not in one.stdout + one.stderr
    truth = world.settled()
    (here,) = truth.places(uuid)
    assert truth.state(uuid) == RUNNING
    assert " changed=0 " in declare([world.hosts[one] for one in hosts].index(here)).stdout


def _apply(world, host, name, uuid, go=lambda: None):
    wanted = {"uuid": uuid, "name": name, "state": "running", "domain": MACHINE.format(memory=32)}
    with world.person(world.jid(host)) as person:
        go()
        content = escape(json.dumps({"vms": [wanted]}))
        return json.loads(person.act(world.jid(host), DECLARATION, "apply", content).text)["results"][0]
