# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""How archipel_fleet goes about many machines: in one session, many a request, and as many at once as it may."""

from __future__ import annotations

import re
import secrets
import time

import pytest
from repository import Repository
from wire import most, run_fleet, sessions

MACHINE = {"memory": "32MiB", "vcpus": 1, "force": True, "shutdown_timeout": 1}
GOLDEN, GONE = "/vm/drives/fleet-limits.raw", "/vm/drives/fleet-limits-gone.raw"
WRAPPER = "/usr/local/sbin/qemu-img"
# Comes before libvirt's qemu-img, and holds what makes an image until it may go on. All hosts have one clock.
HOLD = f"""set -e
: > /run/fleet-limits; touch /run/fleet-limits-held
head -c 64K /dev/urandom > {GOLDEN}
virsh -q pool-refresh default
cat > {WRAPPER} <<'END'
#!/bin/sh
case $1 in create|convert) ;; *) exec /usr/bin/qemu-img "$@" ;; esac
echo "$(date +%s%N) begins" >> /run/fleet-limits
while [ -e /run/fleet-limits-held ]; do sleep 0.1; done
/usr/bin/qemu-img "$@"
status=$?
echo "$(date +%s%N) ends" >> /run/fleet-limits
exit $status
END
chmod 755 {WRAPPER}
"""
# In the end a pool knows a volume that is gone, as when another host on the same storage has removed it.
END = f"""rm -f {WRAPPER} {GOLDEN} /run/fleet-limits*
touch {GONE}; virsh -q pool-refresh default; rm {GONE}
"""


class Held:
    """Machines with a disk that is being made, on both hypervisors, until release()."""

    def __init__(self, platform, folder, disk: dict, hosts: list[str], **options) -> None:
        self._platform = platform
        self.repository = Repository(platform, folder, {**MACHINE, "tags": []}, **options)
        self._vms = [{"name": name, "hypervisor": host} for name, host in zip(named(len(hosts)), hosts)]
        self.repository.declare([{**vm, "disks": [{"name": "root", **disk}]} for vm in self._vms])

    def __enter__(self) -> Held:
        for host in self._platform.hypervisors[:2]:
            self._platform.run(host, HOLD)
        self.repository.begin()
        return self

    def release(self) -> None:
        for host in self._platform.hypervisors[:2]:
            self._platform.run(host, "rm /run/fleet-limits-held")

    def events(self) -> list[tuple[int, str, bool]]:
        """When a disk begins (True) or ends, and where."""
        found = []
        for host in self._platform.hypervisors[:2]:
            lines = [line.split() for line in self._platform.run(host, "cat /run/fleet-limits").splitlines()]
            found += [(int(when), host, what == "begins") for when, what in lines]
        return sorted(found)

    def begun(self) -> list[int]:
        """How many have begun, by hypervisor."""
        hosts = [host for _when, host, begins in self.events() if begins]
        return [hosts.count(host) for host in self._platform.hypervisors[:2]]

    def __exit__(self, *_fault) -> None:
        for host in self._platform.hypervisors[:2]:
            self._platform.run(host, END)
        self.repository.close()
        self.repository.declare([{**vm, "state": "absent", "remove_disks": "owned"} for vm in self._vms])
        gone = self.repository.converge()
        for host in self._platform.hypervisors[:2]:
            self._platform.run(host, "virsh -q pool-refresh default")
        assert gone["summary"] == f"removed {len(self._vms)}", gone["msg"]


@pytest.fixture
def fleet(platform, monkeypatch, capsys):
    """Runs archipel_fleet in this process, with MACHINE for all; the machines that it was given are gone afterwards."""
    names = {}

    def fleet(vms, **options):
        names.update(dict.fromkeys(vm["name"] for vm in vms))
        return run_fleet(platform, monkeypatch, capsys, vms=[{**MACHINE, **vm} for vm in vms], **options)

    yield fleet
    fleet([{"name": name, "state": "absent"} for name in names])


def named(count: int) -> list[str]:
    """Names that no test before has used: accounts go some time after their machines."""
    word = secrets.token_hex(3)
    return [f"limits-{word}-{number}" for number in range(count)]


def test_one_session_carries_a_fleet_and_a_request_many_machines(platform, fleet, tmp_path):
    hosts = platform.hypervisors[:2]
    vms = [{"name": name, "hypervisor": hosts[number % 2]} for number, name in enumerate(named(48))]

    def counted(**options):
        before = sessions(platform, "automation")
        run = fleet(vms, **options)
        assert sessions(platform, "automation") == before + 1
        asked = {action: len(run.wire.sent(action)) for action in ("inventory", "plan", "apply")}
        assert len(run.wire.sent("inventory")) == len({one.host for one in run.wire.sent("inventory")}) == 2
        return run.result["summary"], asked, run.wire

    assert counted(check=True)[:2] == ("create 48", {"inventory": 2, "plan": 2, "apply": 0})
    told, asked, wire = counted()
    # All of them are on their way before the first is answered.
    assert (told, asked) == ("created 48", {"inventory": 2, "plan": 0, "apply": 6})
    assert wire.most("apply") == (dict.fromkeys(hosts, 24), 48)
    assert counted()[:2] == ("unchanged 48", {"inventory": 2, "plan": 2, "apply": 0})

    # The inventory plugin, too.
    before = sessions(platform, "automation")
    listed = Repository(platform, tmp_path, {"tags": []}).inventory(hosts=["vms", "hypervisors"])
    assert sessions(platform, "automation") == before + 1
    assert {vm["name"] for vm in vms} | {*hosts} <= set(listed["_meta"]["hostvars"])


def test_as_many_machines_are_worked_on_as_may_be(platform, tmp_path):
    here, there = platform.hypervisors[:2]
    limits = {"max_parallel": 3, "max_parallel_per_hypervisor": 2}
    with Held(platform, tmp_path, {"size": "1MiB"}, [here, here, here, here, there, there], **limits) as held:
        held.repository.until(lambda: sum(held.begun()) >= 3)
        # Whoever is one too many comes meanwhile.
        time.sleep(1)
        assert held.begun() == [2, 1]
        held.release()
        assert held.repository.end()["summary"] == "created 6"
        assert held.begun() == [4, 2]
        together, whole = most((host, 1, begins) for _when, host, begins in held.events())
        assert (together[here], whole) == (2, 3), held.events()


def test_disks_are_copied_however_long_another_copy_takes(platform, tmp_path):
    """libvirt lets nobody have a pool look at its files meanwhile."""
    disk, host = {"clone": GOLDEN.rpartition("/")[2], "format": "qcow2"}, platform.hypervisors[0]
    folder = tmp_path / "other"
    folder.mkdir()
    other = Repository(platform, folder, {**MACHINE, "tags": []})
    (name,) = named(1)
    try:
        with Held(platform, tmp_path, disk, [host]) as held:
            held.repository.until(lambda: held.begun() == [1, 0])
            other.declare([{"name": name, "hypervisor": host, "disks": [{"name": "root", **disk}]}])
            other.begin()
            # Longer than an agent waits for who only makes an image.
            time.sleep(24)
            held.release()
            assert held.repository.end()["summary"] == "created 1"
            done = other.end()
            assert done["summary"] == "created 1", done["msg"]
    finally:
        other.close()
        other.declare([{"name": name, "state": "absent", "remove_disks": "owned"}])
        assert not other.converge().get("failed")


def test_no_more_machines_move_at_once_than_may(platform, fleet):
    here, there = platform.hypervisors[:2]
    names = named(6)
    made = [{"name": name, "hypervisor": here, "state": "paused"} for name in names[:4]]
    made += [{"name": name, "hypervisor": there, "state": "paused"} for name in names[4:]]
    moved = [{**vm, "hypervisor": there if vm["hypervisor"] == here else here} for vm in made]
    fleet(made)
    run = fleet(moved, max_migrations=3, max_migrations_per_source=2)
    assert run.result["summary"] == "moved 6"
    assert [vm["vm"]["state"] for vm in run.result["vms"]] == ["paused"] * 6
    sources, whole = run.wire.most("migrate")
    assert (sources[here], whole) == (2, 3)
    # What the agents themselves tell of their work.
    told = []
    for host in (here, there):
        for line in platform.run(host, "cat /var/log/archipel/archipel.log").splitlines():
            found = re.match(r"(\S+ \S+) INFO \S+ (limits-\S+) (\(\S+\) begins to move|has moved) to ", line)
            if found and found[2] in names:
                told.append((found[1], found[3] != "has moved", host))
    # At the same moment, one ends before another one begins.
    sources, whole = most((host, 1, begins) for _when, begins, host in sorted(told))
    assert len(told) == 12 and max(sources.values()) <= 2 and whole <= 3, told


def test_groups_come_up_one_after_another_and_go_down_the_other_way(platform, fleet):
    here, there = platform.hypervisors[:2]
    first, second, third, fourth = named(4)
    vms = [
        {"name": fourth, "hypervisor": there, "boot_group": 1, "depends_on": [third]},
        {"name": third, "hypervisor": here, "boot_group": 1},
        {"name": second, "hypervisor": here, "depends_on": [first]},
        {"name": first, "hypervisor": there},
    ]
    order = [first, second, third, fourth]
    up = fleet([{**vm, "state": "paused"} for vm in vms]).wire.turns("apply")
    assert up == [(name, begins) for name in order for begins in (True, False)]
    down = fleet([{**vm, "state": "stopped"} for vm in vms])
    assert down.wire.turns("apply") == [(name, begins) for name in reversed(order) for begins in (True, False)]
    assert down.result["summary"] == "stopped 4"
