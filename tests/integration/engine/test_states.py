# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Power states: each wanted one from each that a guest can be in, driven by libvirt's events."""

from __future__ import annotations

import time

import pytest

from archipel_agent import declaration, domain_xml, domains, own_files, snapshots, volumes, wanted
from archipel_agent.execution import Execution
from archipel_agent.libvirt_facade import libvirt

# Nothing to boot: the firmware idles, and does not hear the power button.
DEAF = (
    "<domain type='qemu'><memory unit='MiB'>32</memory><os><type arch='x86_64' machine='q35'>hvm</type></os>"
    "<devices><serial type='pty'/>%s</devices></domain>"
)
GUEST = (
    "<domain type='qemu'><memory unit='MiB'>128</memory><os><type arch='x86_64' machine='q35'>hvm</type>"
    "<kernel>/vm/guest/vmlinuz</kernel><initrd>/vm/guest/initrd</initrd>"
    "<cmdline>edd=off console=ttyS0 console=tty0</cmdline></os><features><acpi/></features>"
    "<devices><serial type='pty'/></devices></domain>"
)
CDROM = (
    "<disk type='file' device='cdrom'><driver name='qemu' type='raw'/>%s"
    "<target dev='sda' bus='sata'/><readonly/></disk>"
)
ISO = "<source file='/vm/iso/guest.iso'/>"


def state(hypervisor, run, machine):
    (found,) = run(hypervisor.ask("inventory", {"uuids": [machine["uuid"]]}))["vms"]
    return found["state"]


def test_every_wanted_state_from_every_other(hypervisor, run, machine):
    wanted = {**machine, "domain": DEAF % "", "force": True, "shutdown_timeout": 0}
    path = ["running", "paused", "running", "stopped", "paused", "stopped", "running", "present", "stopped", "present"]
    for step in path:
        before = state(hypervisor, run, machine) if step != path[0] else "stopped"
        result = run(hypervisor.apply(**wanted, state=step))
        assert "error" not in result
        expected = before if step == "present" else step
        assert state(hypervisor, run, machine) == expected


def test_the_steps_are_named(hypervisor, run, machine):
    wanted = {**machine, "domain": DEAF % ""}
    assert run(hypervisor.apply(**wanted, state="running"))["actions"] == ["define", "start"]
    paused = run(hypervisor.apply(**wanted, state="paused"))
    assert paused == {
        "uuid": machine["uuid"],
        "changed": True,
        "actions": ["pause"],
        "before": {"state": "running"},
        "after": {"state": "paused"},
    }
    assert run(hypervisor.apply(**wanted, state="running"))["actions"] == ["resume"]


def test_a_guest_that_does_not_listen_is_an_error_and_force_takes_its_power(hypervisor, run, machine):
    wanted = {**machine, "domain": DEAF % "", "shutdown_timeout": 1}
    run(hypervisor.apply(**wanted, state="running"))
    began = time.monotonic()
    result = run(hypervisor.apply(**wanted, state="stopped"))
    assert 1 <= time.monotonic() - began < 4
    assert result["error"].startswith(
        f"the virtual machine '{machine['name']}' has not shut down within 1 s; set force"
    )
    assert state(hypervisor, run, machine) == "running"
    result = run(hypervisor.apply(**wanted, state="stopped", force=True))
    assert result["actions"] == ["shut down", "power off"]
    assert state(hypervisor, run, machine) == "stopped"


def test_a_guest_shuts_down_also_while_it_boots(hypervisor, run, machine):
    run(hypervisor.apply(**machine, domain=GUEST, state="running"))
    result = run(hypervisor.apply(**machine, state="stopped", shutdown_timeout=90))
    assert result["actions"] == ["shut down"]
    assert state(hypervisor, run, machine) == "stopped"


def test_absent_needs_force_while_the_machine_runs(hypervisor, run, machine):
    run(hypervisor.apply(**machine, domain=DEAF % "", state="running"))
    result = run(hypervisor.apply(**machine, state="absent"))
    assert result["error"] == f"the virtual machine '{machine['name']}' is running; stop it first or set force"
    result = run(hypervisor.one("apply", **machine, state="absent", force=True))
    assert result["actions"] == ["power off", "undefine"]
    assert result["after"] == {}
    assert not hypervisor.agent.is_managed(machine["uuid"])
    assert run(hypervisor.apply(**machine, state="absent")) == {"uuid": machine["uuid"]}


def test_a_machine_that_was_undefined_halfway_is_released(hypervisor, run, machine):
    run(hypervisor.agent.manage(machine["uuid"], machine["name"]))
    assert run(hypervisor.apply(**machine, state="absent"))["actions"] == ["remove account"]


def test_a_managed_machine_that_was_never_defined_is_completed(hypervisor, run, machine):
    run(hypervisor.agent.manage(machine["uuid"], machine["name"]))
    assert run(hypervisor.apply(**machine, domain=DEAF % "", state="present"))["actions"] == ["define"]


def test_a_change_of_a_running_machine_waits_for_a_restart(hypervisor, run, machine):
    run(hypervisor.apply(**machine, domain=DEAF % "", state="running"))
    wanted = "<domain><memory unit='MiB'>64</memory></domain>"
    result = run(hypervisor.apply(**machine, domain=wanted, state="running"))
    assert result["restart_required"] == ["memory changes from 32MiB to 64MiB at the next start"]


def test_a_medium_is_changed_in_a_running_machine(hypervisor, run, machine):
    run(hypervisor.apply(**machine, domain=DEAF % (CDROM % ""), state="running"))
    result = run(hypervisor.apply(**machine, domain=DEAF % (CDROM % ISO), state="running"))
    assert result["actions"] == ["change medium in sda", "define"]
    assert result["after"] == {"cdrom": "/vm/iso/guest.iso"}
    assert "restart_required" not in result
    assert "/vm/iso/guest.iso" in run(hypervisor.dump(machine["uuid"], 0))
    assert "/vm/iso/guest.iso" in run(hypervisor.dump(machine["uuid"]))
    result = run(hypervisor.apply(**machine, domain=DEAF % (CDROM % "<source/>"), state="running"))
    assert (result["before"], result["after"]) == ({"cdrom": "/vm/iso/guest.iso"}, {"cdrom": ""})
    assert "/vm/iso/guest.iso" not in run(hypervisor.dump(machine["uuid"], 0))


def test_many_machines_in_one_request(hypervisor, run, machine):
    machines = [
        {"uuid": machine["uuid"][:-2] + f"{number:02x}", "name": f"{machine['name']}-{number}", "domain": DEAF % ""}
        for number in range(20)
    ]
    try:
        wanted = {
            "vms": [{**one, "state": "running" if not number else "present"} for number, one in enumerate(machines)]
        }
        wanted["vms"][3]["domain"] = "<domain/>"
        results = run(hypervisor.ask("apply", wanted))["results"]
        assert [result["uuid"] for result in results] == [one["uuid"] for one in machines]
        assert [number for number, result in enumerate(results) if "error" in result] == [3]
        began = time.monotonic()
        again = run(hypervisor.ask("apply", {**wanted, "facts": True}))["results"]
        assert time.monotonic() - began < 2
        assert sorted(again[0]) == ["uuid", "vm"]
        assert (again[0]["vm"]["state"], again[1]["vm"]["state"], again[3]["vm"]) == ("running", "stopped", None)
    finally:
        for one in machines:
            run(hypervisor.one("apply", uuid=one["uuid"], name=one["name"], state="absent", force=True))


def test_the_variables_of_firmware_stay_until_the_machine_goes(hypervisor, run, machine):
    wanted = (DEAF % "").replace("<os>", "<features><acpi/></features><os firmware='efi'>")
    assert run(hypervisor.apply(**machine, domain=wanted, state="running"))["actions"] == ["define", "start"]
    assert f"/var/lib/libvirt/qemu/nvram/{machine['name']}_VARS.fd" in run(hypervisor.dump(machine["uuid"], 0))
    larger = wanted.replace(">32<", ">64<")
    assert run(hypervisor.apply(**machine, domain=larger, state="stopped", force=True, shutdown_timeout=0))["changed"]
    # libvirt refuses to remove the definition and leave them.
    assert run(hypervisor.apply(**machine, state="absent"))["actions"] == ["undefine"]


def test_nobody_gets_the_variables_of_another_machines_firmware(hypervisor, run, machine):
    other = f"engine-test-other-{machine['uuid'][:8]}"
    acpi = "<features><acpi/></features>"
    theirs = (DEAF % "").replace("<domain type='qemu'>", f"<domain type='qemu'><name>{other}</name>")
    code = "<loader readonly='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE_4M.fd</loader>"
    place = f"{own_files.NVRAM}/{other}_VARS.fd"
    mine = f"{code}<nvram template='/usr/share/OVMF/OVMF_VARS_4M.fd'>{place}</nvram></os>"
    wanted = {**machine, "domain": (DEAF % "").replace("<os>", acpi + "<os>").replace("</os>", mine)}

    def define(connection):
        return connection.defineXML(theirs.replace("<os>", acpi + "<os firmware='efi'>")).UUIDString()

    uuid = run(hypervisor.agent.libvirt.call(define))
    try:
        result = run(hypervisor.one("apply", **wanted, state="present"))
        assert f"{place} belongs to the virtual machine '{other}'" in result["error"]
        # Who may have it nevertheless does not take it away with the machine.
        result = run(hypervisor.one("apply", "admin@archipel.test/x", **wanted, state="present"))
        assert result["changed"]
        assert run(hypervisor.agent.libvirt.call(stays, machine["uuid"]))
        run(hypervisor.agent.libvirt.call(domains.undefine, machine["uuid"]))
    finally:
        run(hypervisor.agent.libvirt.call(domains.undefine, uuid))


def stays(connection, uuid):
    """Whether the variables would outlive the machine, as libvirt is told."""
    definition = domain_xml.parse_domain(connection.lookupByUUIDString(uuid).XMLDesc(3))
    shared = own_files.shared(definition, domains.others(connection, definition))
    return domains._undefine_flags(definition, bool(shared)) & libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM


def everything(machine):
    volume = {"pool": "engine-test", "name": machine["name"], "capacity": 1048576, "format": "raw"}
    disk = f"<disk type='volume'><source pool='engine-test' volume='{volume['name']}'/><target dev='vda'/></disk>"
    return {**machine, "domain": DEAF % (CDROM % ISO + disk), "volumes": [volume], "autostart": True}


CASES = {
    "creation": ({"state": "absent"}, lambda machine: {**everything(machine), "state": "running"}),
    "change": (
        {"state": "running", "domain": DEAF % (CDROM % "")},
        lambda machine: {**everything(machine), "state": "paused"},
    ),
    "new name": (
        {"state": "stopped", "domain": DEAF % ""},
        lambda machine: {**everything(machine), "name": machine["name"] + "-new", "state": "running"},
    ),
    "removal": (
        {"state": "running", "domain": DEAF % ""},
        lambda machine: {**machine, "state": "absent", "force": True},
    ),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("steps", range(6))
def test_who_is_interrupted_between_two_steps_is_helped_by_the_next_run(hypervisor, run, machine, case, steps):
    before, after = CASES[case][0], CASES[case][1](machine)
    run(hypervisor.one("apply", **machine, **before))
    ((desired,), dummy) = wanted.machines({"vms": [after]})

    async def interrupted():
        snapshot = await snapshots.look(hypervisor.agent.libvirt, desired.uuid, desired.name)
        made = await declaration._plan(hypervisor.agent, Request(), desired, snapshot)
        machine = snapshot.machines.get(desired.uuid)
        made.steps = made.steps[:steps]
        await Execution(hypervisor.agent, Request(), desired, machine and machine.xml).run(made)

    run(interrupted())
    assert "error" not in run(hypervisor.apply(**after))
    gone = {"uuid": machine["uuid"], "name": after["name"], "state": "absent", "force": True, "remove_disks": "owned"}
    assert "error" not in run(hypervisor.apply(**gone))
    pool = run(hypervisor.agent.libvirt.call(lambda c: c.storagePoolLookupByName("engine-test").listVolumes()))
    assert machine["name"] not in pool


def test_what_was_made_for_a_machine_that_never_came_to_be_goes_with_it(hypervisor, run, machine):
    wanted = everything(machine)
    hypervisor.agent.store.begin_volume(machine["uuid"], "engine-test", machine["name"])
    run(hypervisor.agent.libvirt.call(volumes.make, wanted["volumes"][0]))
    gone = {**machine, "state": "absent", "remove_disks": "owned"}
    assert run(hypervisor.apply(**gone))["actions"] == [f"delete volume engine-test/{machine['name']}"]
    assert not hypervisor.agent.store.volumes(machine["uuid"])


def test_a_volume_that_could_not_be_made_is_nobodys(hypervisor, run, machine):
    wanted = everything(machine)
    wanted["volumes"][0]["format"] = "nonsense"
    wanted["domain"] = DEAF % ""
    assert "error" in run(hypervisor.apply(**wanted, state="stopped"))
    assert not hypervisor.agent.store.volumes(machine["uuid"])


class Request:
    sender = "admin@archipel.test"

    def permits(self, permission, entity=None):
        return True
