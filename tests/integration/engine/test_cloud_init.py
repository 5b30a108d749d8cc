# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Seeds of cloud-init as volumes of the real daemon: written, kept secret, changed, taken away."""

from __future__ import annotations

import os
import stat

import pytest

from archipel_agent import clone, cloud_init, domain_xml, seeds

DOMAIN = (
    "<domain type='qemu'><memory unit='MiB'>32</memory><os><type arch='x86_64' machine='q35'>hvm</type></os>"
    "<devices/></domain>"
)
SECRET = "#cloud-config\npassword: s3cret\n"


def seed(user_data=SECRET, **more):
    files = {"user-data": user_data, "meta-data": '{"instance-id": "a"}\n', **more}
    return {"pool": "engine-test", "bus": "", "files": files}


def name_of(machine):
    return machine["name"] + "-cloud-init.img"


def stored(hypervisor, run, machine):
    """The files of the seed; None where there is no volume."""
    dummy, image = run(hypervisor.agent.libvirt.call(seeds.read, "engine-test", name_of(machine)))
    return None if image is None else cloud_init.files_of(image)


def drive(hypervisor, run, machine, flags=3):
    return cloud_init.drive(domain_xml.parse_domain(run(hypervisor.dump(machine["uuid"], flags))))


def test_a_seed_through_its_life(hypervisor, run, machine):
    volume, path = f"engine-test/{name_of(machine)}", f"/vm/engine-test/{name_of(machine)}"
    wanted = {**machine, "domain": DOMAIN, "state": "running"}
    result = run(hypervisor.apply(**wanted, cloud_init=seed()))
    assert result["actions"] == [f"create volume {volume}", f"write cloud-init seed {volume}", "define", "start"]
    assert result["after"]["cloud_init"] == {"user_data": "(set)", "meta_data": {"instance-id": "a"}}
    assert "s3cret" not in str(result)
    assert stored(hypervisor, run, machine) == seed()["files"]
    assert drive(hypervisor, run, machine).find("source").get("file") == path
    # Not stated: as it is.
    assert run(hypervisor.apply(**wanted)) == {"uuid": machine["uuid"]}

    result = run(hypervisor.apply(**wanted, cloud_init=seed("#cloud-config\npassword: 0ther\n" + "#" * 400_000)))
    assert result["actions"] == [f"write cloud-init seed {volume}"]
    assert (result["before"], result["after"]) == (
        {"cloud_init": {"user_data": "(set)"}},
        {"cloud_init": {"user_data": "(changed)"}},
    )
    assert "0ther" not in str(result) and "s3cret" not in str(result)
    network = {"network-config": '{"version": 2}\n'}
    result = run(hypervisor.apply(**wanted, cloud_init=seed(**network)))
    assert result["after"] == {"cloud_init": {"user_data": "(changed)", "network_config": {"version": 2}}}
    assert stored(hypervisor, run, machine) == seed(**network)["files"]
    assert b"0ther" not in run(hypervisor.agent.libvirt.call(seeds.read, "engine-test", name_of(machine)))[1]

    # A guest that runs keeps what it has.
    result = run(hypervisor.apply(**wanted, cloud_init={"files": {}}))
    assert result["actions"] == ["define"]
    assert result["restart_required"] == ["cloud_init changes from (set) to nothing at the next start"]
    assert drive(hypervisor, run, machine) is None
    assert stored(hypervisor, run, machine) is not None
    stopped = {**wanted, "state": "stopped", "force": True, "shutdown_timeout": 0}
    result = run(hypervisor.one("apply", **stopped, cloud_init={"files": {}}))
    assert result["actions"] == ["shut down", "power off", f"delete volume {volume}"]
    assert stored(hypervisor, run, machine) is None
    assert run(hypervisor.apply(**stopped, cloud_init={"files": {}})) == {"uuid": machine["uuid"]}


def test_nobody_else_can_read_it(hypervisor, run, machine):
    run(hypervisor.apply(**machine, domain=DOMAIN, state="present", cloud_init=seed()))
    path = f"/vm/engine-test/{name_of(machine)}"
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    with pytest.raises(PermissionError):
        open(path, "rb")


def test_it_goes_with_its_machine_or_stays_for_the_next(hypervisor, run, machine):
    volume = f"engine-test/{name_of(machine)}"
    wanted = {**machine, "domain": DOMAIN, "state": "present", "cloud_init": seed()}
    run(hypervisor.apply(**wanted))
    assert run(hypervisor.apply(**machine, state="absent"))["actions"] == ["undefine"]
    assert stored(hypervisor, run, machine) == seed()["files"]
    # The same declaration again finds it.
    assert run(hypervisor.apply(**wanted))["actions"] == ["define"]
    result = run(hypervisor.apply(**machine, state="absent", remove_disks="owned"))
    assert result["actions"] == [f"delete volume {volume}", "undefine"]
    assert stored(hypervisor, run, machine) is None


def test_a_copy_of_the_machine_has_none(hypervisor, run, machine):
    run(hypervisor.apply(**machine, domain=DOMAIN, state="present", cloud_init=seed()))
    original = domain_xml.parse_domain(run(hypervisor.dump(machine["uuid"])))
    copy = clone.copied(original, machine["uuid"][:-2] + "00", "copy")
    assert cloud_init.drive(original) is not None and cloud_init.drive(copy) is None


def test_what_is_there_and_no_seed_is_left_alone(hypervisor, run, machine):
    xml = f"<volume><name>{name_of(machine)}</name><capacity>262144</capacity></volume>"

    def fill(connection):
        volume = connection.storagePoolLookupByName("engine-test").createXML(xml)
        stream = connection.newStream()
        volume.upload(stream, 0, 65536)
        stream.send(b"\1" * 65536)
        stream.finish()

    run(hypervisor.agent.libvirt.call(fill))
    result = run(hypervisor.one("apply", **machine, domain=DOMAIN, state="present", cloud_init=seed()))
    assert result["error"] == (
        f"the volume engine-test/{name_of(machine)} is something else than a seed of cloud-init, and is not overwritten"
    )
