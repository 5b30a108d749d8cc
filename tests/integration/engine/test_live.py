# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Changes of a guest that runs: what it is given at once, and what waits for its next start and is told again."""

from __future__ import annotations

import pytest

from archipel_agent import domain_xml

HEAD = (
    "<domain type='qemu'><memory unit='MiB'>128</memory><currentMemory unit='MiB'>%d</currentMemory>"
    "<vcpu current='%d'>2</vcpu><os><type arch='x86_64' machine='pc'>hvm</type>%s</os><features><acpi/></features>"
    "<devices><serial type='pty'/>%s</devices></domain>"
)
KERNEL = (
    "<kernel>/vm/guest/vmlinuz</kernel><initrd>/vm/guest/initrd</initrd>"
    "<cmdline>edd=off console=ttyS0 console=tty0%s</cmdline>"
)
NIC = (
    "<interface type='network'><mac address='52:54:00:00:00:0%d'/><source network='default'/><model type='virtio'/>%s"
    "</interface>"
)
DISK = "<disk type='volume' device='disk'><source pool='engine-test' volume='%s'/><target dev='%s' bus='%s'/>%s</disk>"
VNC = "<graphics type='vnc' autoport='yes' passwd='%s'/>"
CPU = "<cpu mode='custom' match='exact' check='none'><model>qemu64</model><feature policy='disable' name='svm'/></cpu>"
EXACT = ["disk", "interface", "graphics"]


def domain(*devices, memory=128, vcpus=2, cmdline=""):
    return HEAD % (memory, vcpus, KERNEL % cmdline, "".join(devices))


def volume(name):
    return {"pool": "engine-test", "name": name, "capacity": 1 << 20, "format": "qcow2"}


@pytest.fixture
def guest(hypervisor, run, machine):
    """A request that starts a machine, and leaves it changed as its arguments say."""

    def declare(*devices, volumes=(), **options):
        words = {name: options.pop(name) for name in ("memory", "vcpus", "cmdline") if name in options}
        return run(
            hypervisor.apply(
                **machine,
                domain=domain(*devices, **words),
                exact=EXACT,
                volumes=[volume(name) for name in volumes],
                state="running",
                **options,
            )
        )

    return declare


def live(hypervisor, run, machine):
    return domain_xml.parse_domain(run(hypervisor.dump(machine["uuid"], 1)))


def test_nothing_waits_for_a_restart_after_a_start(guest, hypervisor, run, machine):
    drive = "<disk type='file' device='cdrom'>%s<target dev='hdb' bus='ide'/></disk>"
    devices = NIC % (1, ""), VNC % "one", DISK % ("a", "vda", "virtio", "")
    guest(*devices, drive % "<source file='/vm/iso/guest.iso'/>", volumes=["a"])
    assert guest(*devices, drive % "", volumes=["a"])["applied_live"] == ["change medium in hdb"]
    assert run(hypervisor.plan(**machine, state="running")) == {"uuid": machine["uuid"]}


def test_a_disk_and_an_interface_come_and_go(guest, hypervisor, run, machine):
    guest(DISK % ("a", "vda", "virtio", ""), volumes=["a"])
    more = DISK % ("b", "vdb", "virtio", ""), DISK % ("c", "sda", "scsi", ""), NIC % (1, "")
    result = guest(DISK % ("a", "vda", "virtio", ""), *more, volumes=["a", "b", "c"])
    assert sorted(result["applied_live"]) == [
        "attach controller[scsi,0]",
        "attach disk[sda]",
        "attach disk[vdb]",
        "attach interface[52:54:00:00:00:01]",
    ]
    assert "restart_required" not in result
    devices = live(hypervisor, run, machine)
    assert [disk.find("target").get("dev") for disk in devices.findall("devices/disk")] == ["vda", "vdb", "sda"]


def test_an_interface_is_changed_in_place(guest, hypervisor, run, machine):
    guest(NIC % (1, ""))
    result = guest(NIC % (1, "<link state='down'/>"))
    assert result["applied_live"] == ["update interface[52:54:00:00:00:01]"]
    assert "restart_required" not in result
    interface = live(hypervisor, run, machine).find("devices/interface")
    assert interface.find("link").get("state") == "down"


def test_a_disk_is_limited(guest, hypervisor, run, machine):
    guest(DISK % ("a", "vda", "virtio", ""), volumes=["a"])
    tune = "<iotune><total_iops_sec>50</total_iops_sec></iotune>"
    result = guest(DISK % ("a", "vda", "virtio", tune), volumes=["a"])
    assert result["applied_live"] == ["limit disk[vda]"]
    assert live(hypervisor, run, machine).findtext("devices/disk/iotune/total_iops_sec") == "50"
    result = guest(DISK % ("a", "vda", "virtio", tune.replace("total", "read")), volumes=["a"])
    assert result["applied_live"] == ["limit disk[vda]"]
    (limit,) = live(hypervisor, run, machine).find("devices/disk/iotune")
    assert (limit.tag, limit.text) == ("read_iops_sec", "50")


def test_a_password_is_changed_and_not_told(guest, hypervisor, run, machine):
    guest(VNC % "one")
    result = guest(VNC % "two")
    assert result["applied_live"] == ["set the password of graphics[vnc]"]
    assert "two" not in str(result) and "restart_required" not in result
    assert live(hypervisor, run, machine).find("devices/graphics").get("passwd") == "two"


def test_processors_and_title(guest, hypervisor, run, machine):
    guest(vcpus=1)
    result = guest(vcpus=2)
    assert result["applied_live"] == ["set the processors"]
    assert "restart_required" not in result
    assert live(hypervisor, run, machine).find("vcpu").get("current") is None
    titled = "<domain><title>A title</title></domain>"
    result = run(hypervisor.apply(**machine, domain=titled, state="running"))
    assert result["applied_live"] == ["set title"] and "restart_required" not in result
    assert live(hypervisor, run, machine).findtext("title") == "A title"


def test_what_waits_is_told_until_the_restart(guest, hypervisor, run, machine):
    guest(DISK % ("a", "vda", "virtio", ""), volumes=["a"])
    result = guest(DISK % ("a", "vda", "virtio", "<driver name='qemu' cache='none'/>"), volumes=["a"], cmdline=" quiet")
    reasons = [
        "cmdline changes from edd=off console=ttyS0 console=tty0 to edd=off console=ttyS0 console=tty0 quiet at the "
        "next start",
        "disks change at the next start",
    ]
    assert result["restart_required"] == reasons
    assert run(hypervisor.plan(**machine, state="running")) == {"uuid": machine["uuid"], "restart_required": reasons}
    result = run(
        hypervisor.one("apply", **machine, state="running", allow_restart=True, force=True, shutdown_timeout=60)
    )
    assert result["actions"][0] == "shut down" and result["actions"][-1] == "start"
    assert "restart_required" not in result
    assert run(hypervisor.plan(**machine, state="running")) == {"uuid": machine["uuid"]}


def test_next_boot_leaves_the_guest_alone_and_a_later_run_gives_it(guest, hypervisor, run, machine):
    guest()
    result = guest(DISK % ("a", "vda", "virtio", ""), volumes=["a"], apply="next_boot")
    assert "applied_live" not in result
    assert result["restart_required"] == ["disks change at the next start"]
    assert live(hypervisor, run, machine).find("devices/disk") is None
    result = guest(DISK % ("a", "vda", "virtio", ""), volumes=["a"])
    assert result["actions"] == result["applied_live"] == ["attach disk[vda]"]


def test_live_or_not_at_all(guest, hypervisor, run, machine):
    guest()
    before = run(hypervisor.dump(machine["uuid"]))
    result = guest(VNC % "one", apply="live")
    assert "apply is live" in result["error"] and "graphics change at the next start" in result["error"]
    assert run(hypervisor.dump(machine["uuid"])) == before


def test_saved_and_on_again(guest, hypervisor, run, machine):
    guest()
    assert run(hypervisor.apply(**machine, state="saved"))["actions"] == ["save"]
    (found,) = run(hypervisor.ask("inventory", {"uuids": [machine["uuid"]]}))["vms"]
    assert found["state"] == "saved"
    assert run(hypervisor.apply(**machine, state="running"))["before"] == {"state": "saved"}
    assert run(hypervisor.apply(**machine, state="saved"))["changed"]
    result = run(hypervisor.apply(**machine, state="stopped", shutdown_timeout=90))
    assert result["actions"] == ["start", "shut down"]
    result = run(hypervisor.plan(**machine, state="saved"))
    assert "only a guest that runs can be saved" in result["error"]


def test_restarted_is_done_on_every_run(guest, hypervisor, run, machine):
    guest()
    for dummy in range(2):
        number = run(hypervisor.agent.libvirt.call(lambda c: c.lookupByUUIDString(machine["uuid"]).ID()))
        wanted = {**machine, "state": "restarted", "force": True, "shutdown_timeout": 30}
        result = run(hypervisor.one("apply", **wanted))
        assert result["actions"][0] == "shut down" and result["actions"][-1] == "start"
        assert run(hypervisor.agent.libvirt.call(lambda c: c.lookupByUUIDString(machine["uuid"]).ID())) != number


def test_another_processor_waits_for_the_next_start_and_no_longer(guest, hypervisor, run, machine):
    """libvirt is asked once a start what a guest was started with."""
    guest()
    wanted = {**machine, "domain": f"<domain>{CPU}</domain>", "state": "running"}
    waits = run(hypervisor.apply(**wanted))["restart_required"]
    assert waits and run(hypervisor.plan(**machine, state="running"))["restart_required"] == waits
    run(hypervisor.apply(**wanted, allow_restart=True, force=True, shutdown_timeout=1))
    assert run(hypervisor.plan(**wanted)) == {"uuid": machine["uuid"]}
