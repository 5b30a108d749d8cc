# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a declaration needs and the host does not have is told all at once, before anything changes."""

from __future__ import annotations

import asyncio

import pytest

from archipel_agent import preflight

ADMIN = "admin@archipel.test/test"
DOMAIN = (
    "<domain type='qemu'><memory unit='TiB'>%s</memory><os><type arch='x86_64' machine='pc'>hvm</type>%s</os>"
    "<devices>%s</devices></domain>"
)
DEVICES = (
    "<interface type='network'><source network='dmz'/></interface><interface type='bridge'><source bridge='br9'/>"
    "<filterref filter='none-such'/></interface>"
    "<disk type='file' device='cdrom'><source file='/vm/iso/none.iso'/><target dev='sda' bus='sata'/></disk>"
    "<disk type='volume' device='disk'><source pool='%s' volume='none'/><target dev='%s' bus='virtio'/></disk>"
)
TOLD = (
    "the memory, 9TiB, is more than the ",
    "there is no network 'dmz' here; there are: back, default, front, lan",
    "there is no network device 'br9' here",
    "there is no network filter 'none-such' here",
    "there is no file /vm/none here",
    "there is no file /vm/iso/none.iso here",
)


def test_everything_is_told_at_once(hypervisor, run, machine):
    reasons = {"none": "there is no storage pool 'none' here", "engine-test": "engine-test/none does not exist"}
    for pool, reason in reasons.items():
        wanted = DOMAIN % (9, "<kernel>/vm/none</kernel>", DEVICES % (pool, "vda"))
        for action in ("plan", "apply"):
            error = run(hypervisor.one(action, **machine, domain=wanted, state="running"))["error"]
            assert [text for text in (*TOLD, reason) if text not in error] == [], error
    assert not hypervisor.agent.is_managed(machine["uuid"])


@pytest.mark.parametrize("kind", ["xen", "lxc", "test"])
def test_a_machine_of_another_driver_is_refused_before_it_is_made(hypervisor, run, machine, kind):
    """libvirt itself says so only to who defines it."""
    wanted = (DOMAIN.replace("TiB", "MiB") % (32, "", "")).replace("'qemu'", f"'{kind}'")
    for action in ("plan", "apply"):
        error = run(hypervisor.one(action, **machine, domain=wanted, state="present"))["error"]
        assert error == f"domain_type: there are no machines of the type '{kind}' here, but of qemu and kvm"
    assert not hypervisor.agent.is_managed(machine["uuid"])


def test_a_file_in_a_folder_that_is_missing_is_missing(hypervisor, run, machine):
    files = ("/vm/none/kernel", "/vm/iso/sub/x.iso", "/vm/iso/guest.iso/x.iso")
    disk = "<disk type='file' device='cdrom'><source file='%s'/><target dev='sd%s' bus='sata'/></disk>"
    wanted = DOMAIN.replace("TiB", "MiB") % (
        32,
        f"<kernel>{files[0]}</kernel>",
        disk % (files[1], "a") + disk % (files[2], "b"),
    )
    for action in ("plan", "apply"):
        error = run(hypervisor.one(action, **machine, domain=wanted, state="running"))["error"]
        assert error == "; ".join(f"there is no file {path} here" for path in files)
    assert not hypervisor.agent.is_managed(machine["uuid"])


@pytest.mark.parametrize("path", ["/root/none", "/tmp/none", "/var/tmp/none"])
def test_a_file_where_the_agent_cannot_look_may_be_there(hypervisor, run, machine, path):
    wanted = DOMAIN.replace("TiB", "MiB") % (32, f"<kernel>{path}/kernel</kernel>", "")
    assert "error" not in run(hypervisor.one("plan", ADMIN, **machine, domain=wanted, state="present"))


PLACES = {
    "/dev/none": "<disk type='block' device='disk'><source dev='/dev/none'/><target dev='vda' bus='virtio'/></disk>",
    "/vm/none": "<filesystem type='mount'><source dir='/vm/none'/><target dir='a'/></filesystem>",
    "/srv/none": "<filesystem type='mount'><source dir='/srv/none'/><target dir='b'/></filesystem>",
    "/dev/no-rng": "<rng model='virtio'><backend model='random'>/dev/no-rng</backend></rng>",
    "device pci_ffff_ff_1f_7": "<hostdev mode='subsystem' type='pci' managed='yes'><source>"
    "<address domain='0xffff' bus='0xff' slot='0x1f' function='0x7'/></source></hostdev>",
}


def test_devices_and_folders_that_are_missing_are_told_to_who_may_know(hypervisor, run, machine):
    wanted = DOMAIN.replace("TiB", "MiB") % (32, "", "".join(PLACES.values()))
    stated = {**machine, "domain": wanted, "state": "present"}
    for action in ("plan", "apply"):
        error = run(hypervisor.one(action, ADMIN, **stated))["error"]
        assert error == "; ".join(f"there is no {place} here" for place in PLACES)
    # Others learn of their own folder alone.
    error = run(hypervisor.plan(**stated))["error"]
    assert "there is no /vm/none here" in error and error.count("there is no") == 1
    assert not hypervisor.agent.is_managed(machine["uuid"])


def test_an_address_that_is_none_is_libvirts_to_refuse(hypervisor, run, machine):
    device = PLACES["device pci_ffff_ff_1f_7"].replace("0x1f", "last")
    wanted = DOMAIN.replace("TiB", "MiB") % (32, "", device)
    error = run(hypervisor.one("plan", ADMIN, **machine, domain=wanted, state="present"))["error"]
    assert "'slot'" in error and "last" in error and "inside the agent" not in error


def test_devices_and_folders_that_are_there_are_no_problem(hypervisor, run, machine):
    devices = (
        "<filesystem type='mount'><source dir='/vm/iso'/><target dir='a'/></filesystem>"
        "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>"
    )
    wanted = DOMAIN.replace("TiB", "MiB") % (32, "", devices)
    assert "error" not in run(hypervisor.one("plan", ADMIN, **machine, domain=wanted, state="present"))


def test_two_disks_on_one_target(hypervisor, run, machine):
    disk = "<disk type='file' device='disk'><source file='/vm/iso/guest.iso'/><target dev='vda' bus='virtio'/></disk>"
    error = run(hypervisor.plan(**machine, domain=DOMAIN % (0, "", disk + disk), state="present"))["error"]
    assert "more than one disk has the target vda" in error


def test_nobody_learns_which_files_the_host_has(hypervisor, run, machine):
    disk = "<disk type='file' device='cdrom'><source file='%s'/><target dev='sda' bus='sata'/></disk>"
    answers = {
        run(hypervisor.plan(**machine, domain=DOMAIN.replace("TiB", "MiB") % (32, "", disk % path), state="present"))[
            "error"
        ].replace(path, "")
        for path in ("/etc/hostname", "/etc/nothing-of-that-name")
    }
    assert len(answers) == 1 and "host_access" in answers.pop()


def test_nobody_learns_which_folders_the_host_has(hypervisor, run, machine):
    bridge = "<interface type='bridge'><source bridge='%s'/></interface>"
    for name in ("../../../etc", "../../../nothing-of-that-name", "."):
        wanted = DOMAIN.replace("TiB", "MiB") % (32, "", bridge % name)
        error = run(hypervisor.plan(**machine, domain=wanted, state="present"))["error"]
        assert f"there is no network device '{name}' here" in error


def test_what_is_missing_is_looked_for_while_the_normaliser_works(hypervisor, run):
    look = preflight.Look(hypervisor.agent.libvirt, "<domain><memory unit='EiB'>1</memory></domain>", True)

    async def normalise(xml, domain_type):
        # As long as it takes: without a look beside it, this would never end.
        while look._begun is None or not look._begun.done():
            await asyncio.sleep(0.01)
        return xml

    assert run(asyncio.wait_for(look.beside(normalise)("<domain/>", "qemu"), 30)) == "<domain/>"
    (problem,) = run(look.problems())
    assert problem.startswith("the memory, 1048576TiB, is more than the ")
