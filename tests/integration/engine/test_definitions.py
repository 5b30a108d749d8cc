# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is declared, what libvirt makes of it, and what a second declaration finds."""

from __future__ import annotations

import io
import re
import subprocess

import pytest

from archipel_agent import domain_xml, domains

MINIMAL = (
    "<domain><memory unit='MiB'>128</memory><vcpu>1</vcpu>"
    "<os><type arch='x86_64' machine='q35'>hvm</type></os>%s</domain>"
)
NETWORK = "<interface type='network'><source network='default'/>%s</interface>"
VNC = "<graphics type='vnc' autoport='yes'%s><listen type='address' address='127.0.0.1'/></graphics>"


def disk(target, number=None, bus="virtio"):
    name = number or target
    return (
        f"<disk type='volume' device='disk'><source pool='engine-test' volume='{name}'/>"
        f"<target dev='{target}' bus='{bus}'/></disk>"
    )


def volume(name, form="qcow2"):
    return {"pool": "engine-test", "name": name, "capacity": 16 * 1024 * 1024, "format": form}


def domain(*devices, memory="128"):
    return (MINIMAL % f"<devices>{''.join(devices)}</devices>").replace(">128<", f">{memory}<")


def addresses(xml):
    tree = domain_xml.parse_domain(xml)
    devices = domain_xml.devices_of(tree)
    return {
        key: sorted(device.find("address").items())
        for key, device in zip(domain_xml.device_keys(devices), devices)
        if device.find("address") is not None
    }


def test_a_minimal_definition_is_unchanged_the_second_time(hypervisor, run, machine):
    first = run(hypervisor.apply(**machine, state="present", domain=domain(NETWORK % "")))
    assert first["actions"] == ["define"]
    assert first["before"] == {}
    assert first["after"]["memory"] == "128MiB"
    assert first["after"]["networks"][0]["network"] == "default"
    assert first["after"]["domain_type"] in ("kvm", "qemu")
    assert hypervisor.agent.is_managed(machine["uuid"])


def test_an_empty_declaration_of_an_existing_machine_states_nothing(hypervisor, run, machine):
    run(hypervisor.apply(**machine, state="present", domain=domain(NETWORK % "")))
    assert run(hypervisor.apply(**machine, state="present")) == {"uuid": machine["uuid"]}


def test_a_lost_machine_gets_the_same_addresses_again(hypervisor, run, machine):
    wanted = domain(NETWORK % "", NETWORK % "")
    first = run(hypervisor.apply(**machine, state="present", domain=wanted))
    run(hypervisor.apply(**machine, state="absent"))
    assert run(hypervisor.apply(**machine, state="present", domain=wanted))["after"] == first["after"]


def test_the_order_of_devices_is_not_a_change(hypervisor, run, machine):
    parts = [NETWORK % "", VNC % "", disk("vda"), disk("vdb")]
    volumes = [volume("vda"), volume("vdb")]
    run(hypervisor.apply(**machine, state="present", domain=domain(*parts), volumes=volumes))
    assert run(hypervisor.plan(**machine, state="present", domain=domain(*reversed(parts)), volumes=volumes)) == {
        "uuid": machine["uuid"]
    }


@pytest.mark.parametrize("memory", ["<memory unit='KiB'>131072</memory>", "<memory unit='b'>134217728</memory>"])
def test_the_unit_of_a_size_is_not_a_change(hypervisor, run, machine, memory):
    run(hypervisor.apply(**machine, state="present", domain=domain()))
    wanted = f"<domain>{memory}</domain>"
    assert run(hypervisor.plan(**machine, state="present", domain=wanted)) == {"uuid": machine["uuid"]}


def test_only_the_memory_changes(hypervisor, run, machine):
    run(hypervisor.apply(**machine, state="present", domain=domain(NETWORK % "", VNC % " passwd='secret'")))
    before = run(hypervisor.dump(machine["uuid"])).splitlines()
    result = run(
        hypervisor.apply(**machine, state="present", domain="<domain><memory unit='MiB'>256</memory></domain>")
    )
    assert (result["before"], result["after"]) == ({"memory": "128MiB"}, {"memory": "256MiB"})
    after = run(hypervisor.dump(machine["uuid"])).splitlines()
    assert [new for old, new in zip(before, after) if old != new] == [
        "  <memory unit='KiB'>262144</memory>",
        "  <currentMemory unit='KiB'>262144</currentMemory>",
    ]


def test_only_the_password_changes_and_is_not_shown(hypervisor, run, machine):
    run(hypervisor.apply(**machine, state="present", domain=domain(VNC % " passwd='first1'")))
    result = run(hypervisor.apply(**machine, state="present", domain=domain(VNC % " passwd='second'")))
    assert result["actions"] == ["define"]
    assert result["before"]["graphics"][0]["password"] == "(set)"
    assert result["after"]["graphics"][0]["password"] == "(changed)"
    assert not re.search("first1|second", str(result))
    assert "passwd='second'" in run(hypervisor.dump(machine["uuid"]))
    # Not stated, it stays.
    run(hypervisor.apply(**machine, state="present", domain=domain(VNC % "", memory="192")))
    assert "passwd='second'" in run(hypervisor.dump(machine["uuid"]))


def test_a_removed_disk_leaves_all_other_addresses(hypervisor, run, machine):
    volumes = [volume(name) for name in ("vda", "vdb", "vdc")]
    whole = domain(disk("vda"), disk("vdb"), disk("vdc"), NETWORK % "", VNC % "")
    run(hypervisor.apply(**machine, state="present", domain=whole, volumes=volumes))
    before = addresses(run(hypervisor.dump(machine["uuid"])))
    part = domain(disk("vda"), disk("vdc"), NETWORK % "", VNC % "")
    result = run(
        hypervisor.apply(**machine, state="present", domain=part, volumes=volumes[:1] + volumes[2:], exact=["disk"])
    )
    assert [found["target"] for found in result["before"]["disks"]] == ["vda", "vdb", "vdc"]
    assert [found["target"] for found in result["after"]["disks"]] == ["vda", "vdc"]
    after = addresses(run(hypervisor.dump(machine["uuid"])))
    del before["disk", "vdb"]
    assert after == before
    # Its storage stays.
    run(hypervisor.agent.libvirt.call(lambda connection: connection.storageVolLookupByPath("/vm/engine-test/vdb")))


def test_disks_may_leave_their_targets_to_the_agent(hypervisor, run, machine):
    def nameless(*names):
        return domain(*(disk(name).replace(f"dev='{name}' ", "") for name in names))

    volumes = [volume(name) for name in ("vda", "vdb", "vdc")]
    first = run(hypervisor.apply(**machine, state="present", domain=nameless("vda", "vdb", "vdc"), volumes=volumes))
    assert [found["target"] for found in first["after"]["disks"]] == ["vda", "vdb", "vdc"]
    before = addresses(run(hypervisor.dump(machine["uuid"])))
    # Without the first, the others stay what they are to the guest.
    wanted = {"domain": nameless("vdb", "vdc"), "volumes": volumes[1:], "exact": ["disk"]}
    second = run(hypervisor.apply(**machine, state="present", **wanted))
    assert second["after"]["disks"] == first["after"]["disks"][1:]
    del before["disk", "vda"]
    assert addresses(run(hypervisor.dump(machine["uuid"]))) == before


def test_an_alias_does_not_move_an_old_machine(hypervisor, run, machine):
    old = domain(NETWORK % "").replace("'q35'", "'pc-q35-6.2'")
    run(hypervisor.apply(**machine, state="present", domain=old))
    assert run(hypervisor.plan(**machine, state="present", domain=domain(NETWORK % ""))) == {"uuid": machine["uuid"]}


def test_one_more_device_is_one_more_device(hypervisor, run, machine):
    run(hypervisor.apply(**machine, state="present", domain=domain(NETWORK % "", VNC % "")))
    before = addresses(run(hypervisor.dump(machine["uuid"])))
    extra = (
        "<domain><devices><rng model='virtio'><backend model='random'>/dev/urandom</backend></rng></devices></domain>"
    )
    result = run(hypervisor.apply(**machine, state="present", domain=extra))
    assert (result["before"], result["after"]) == ({}, {"rng": {"source": "/dev/urandom"}})
    after = addresses(run(hypervisor.dump(machine["uuid"])))
    assert before.items() <= after.items()


def test_a_new_interface_leaves_the_old_one(hypervisor, run, machine):
    first = run(hypervisor.apply(**machine, state="present", domain=domain(NETWORK % "")))
    wanted = domain("<interface type='bridge'><source bridge='virbr0'/></interface>", NETWORK % "")
    second = run(hypervisor.apply(**machine, state="present", domain=wanted, exact=["interface"]))
    assert first["after"]["networks"][0] in second["after"]["networks"]
    assert len({network["mac"] for network in second["after"]["networks"]}) == 2
    third = run(hypervisor.apply(**machine, state="present", domain=domain(NETWORK % ""), exact=["interface"]))
    assert third["after"]["networks"] == first["after"]["networks"]


def test_kernel_comes_and_goes(hypervisor, run, machine):
    run(hypervisor.apply(**machine, state="present", domain=domain()))
    direct = "<domain><os><kernel>/vm/guest/vmlinuz</kernel><cmdline>console=ttyS0</cmdline></os></domain>"
    result = run(hypervisor.apply(**machine, state="present", domain=direct))
    assert result["after"] == {"kernel": "/vm/guest/vmlinuz", "cmdline": "console=ttyS0"}
    gone = "<domain><os><kernel/><cmdline/></os></domain>"
    assert run(hypervisor.apply(**machine, state="present", domain=gone))["after"] == {}


def test_defaults_count_only_at_creation(hypervisor, run, machine):
    defaults = (
        "<domain><memory unit='MiB'>64</memory><vcpu>2</vcpu><os><type arch='x86_64' machine='q35'>hvm</type></os>"
        "<devices><serial type='pty'/><console type='pty'/></devices></domain>"
    )
    wanted = "<domain><memory unit='MiB'>128</memory></domain>"
    result = run(hypervisor.apply(**machine, state="present", domain=wanted, defaults=defaults))
    assert (result["after"]["memory"], result["after"]["vcpus"]) == ("128MiB", 2)
    other = defaults.replace(">2<", ">4<")
    assert run(hypervisor.plan(**machine, state="present", domain=wanted, defaults=other)) == {"uuid": machine["uuid"]}


def test_autostart(hypervisor, run, machine):
    result = run(hypervisor.apply(**machine, state="present", domain=domain(), autostart=True))
    assert result["actions"] == ["define", "set autostart"]
    result = run(hypervisor.apply(**machine, state="present", autostart=False))
    assert (result["before"], result["after"]) == ({"autostart": True}, {"autostart": False})


def test_another_name(hypervisor, run, machine):
    run(hypervisor.apply(**machine, state="present", domain=domain()))
    wanted = {**machine, "name": machine["name"] + "-new"}
    result = run(hypervisor.apply(**wanted, state="present", domain=domain(memory="192")))
    assert result["actions"] == ["rename to " + wanted["name"], "define"]
    assert result["before"] == {"memory": "128MiB", "name": machine["name"]}


def test_volumes_are_made_once_and_resolved_to_files(hypervisor, run, machine):
    wanted = domain(disk("vda", "root.qcow2"), disk("vdb", "data.raw"))
    volumes = [volume("root.qcow2"), volume("data.raw", "raw")]
    result = run(hypervisor.apply(**machine, state="present", domain=wanted, volumes=volumes))
    assert result["actions"] == [
        "create volume engine-test/root.qcow2",
        "create volume engine-test/data.raw",
        "define",
    ]
    assert result["after"]["disks"] == [
        {"target": "vda", "bus": "virtio", "path": "/vm/engine-test/root.qcow2", "format": "qcow2"},
        {"target": "vdb", "bus": "virtio", "path": "/vm/engine-test/data.raw", "format": "raw"},
    ]


def test_many_volumes_are_made_at_the_same_time(hypervisor, run, machine):
    machines = [
        {
            "uuid": machine["uuid"][:-2] + f"{number:02x}",
            "name": f"{machine['name']}-{number}",
            "domain": domain(disk("vda", f"many-{number}"), disk("vdb", f"more-{number}")),
            "volumes": [volume(f"many-{number}", "raw"), volume(f"more-{number}")],
            "state": "present",
        }
        for number in range(16)
    ]
    try:
        results = run(hypervisor.ask("apply", {"vms": machines}))["results"]
        assert [result.get("error") for result in results] == [None] * 16
        results = run(hypervisor.ask("apply", {"vms": machines}))["results"]
        assert results == [{"uuid": one["uuid"]} for one in machines]
    finally:
        gone = [{"uuid": one["uuid"], "name": one["name"], "state": "absent"} for one in machines]
        run(hypervisor.ask("apply", {"vms": gone}))


def test_a_pool_or_volume_that_is_not_there(hypervisor, run, machine):
    result = run(hypervisor.plan(**machine, state="present", domain=domain(disk("vda", "nothing"))))
    assert result["error"] == "the volume engine-test/nothing does not exist"
    wanted = domain(disk("vda").replace("engine-test", "engine-none"))
    result = run(hypervisor.plan(**machine, state="present", domain=wanted))
    assert result["error"].startswith("there is no storage pool 'engine-none' here; there are: ")


def test_a_name_in_use(hypervisor, run, machine):
    run(hypervisor.apply(**machine, state="present", domain=domain()))
    other = {"uuid": "11111111-2222-4333-8444-555555555555", "name": machine["name"]}
    result = run(hypervisor.plan(**other, state="present", domain=domain()))
    assert result["error"] == f"the name '{machine['name']}' is used by the domain {machine['uuid']}"
    run(hypervisor.agent.release(machine["uuid"]))
    result = run(hypervisor.apply(**machine, state="present", domain=domain()))
    assert result["error"].endswith("which is not managed here; archipel_import brings it under management")


def test_libvirt_refuses(hypervisor, run, machine):
    result = run(
        hypervisor.apply(
            **machine, state="present", domain=domain("<disk type='file'><target dev='vda' bus='usbx'/></disk>")
        )
    )
    assert "usbx" in result["error"]
    assert not hypervisor.agent.is_managed(machine["uuid"])


def test_someone_else_changes_the_definition_meanwhile(hypervisor, run, machine):
    run(hypervisor.apply(**machine, state="present", domain=domain()))
    xml = run(hypervisor.dump(machine["uuid"]))
    with pytest.raises(Exception, match="changed by someone else"):
        run(hypervisor.agent.libvirt.call(domains.define, machine["uuid"], xml.replace("131072", "1"), xml))


def test_reaching_into_the_host_needs_a_permission_of_its_own(hypervisor, run, machine):
    wanted = domain("<filesystem type='mount'><source dir='/etc'/><target dir='etc'/></filesystem>")
    result = run(hypervisor.one("apply", **machine, state="present", domain=wanted))
    assert "host_access" in result["error"] and "filesystem[etc]" in result["error"]
    result = run(hypervisor.one("apply", "admin@archipel.test/x", **machine, state="present", domain=wanted))
    assert result["changed"]


@pytest.mark.parametrize("part", ["domain", "defaults"])
def test_an_emulator_of_somebodys_own_is_not_even_asked_what_it_can_do(hypervisor, run, machine, tmp_path, part):
    script, trace = tmp_path / "emulator", tmp_path / "trace"
    script.write_text(f"#!/bin/sh\ntouch {trace}\n")
    script.chmod(0o755)
    stated = {"domain": domain(), part: domain(f"<emulator>{script}</emulator>")}
    for action in ("plan", "apply"):
        result = run(hypervisor.one(action, **machine, state="present", **stated))
        assert "host_access" in result["error"] and str(script) in result["error"]
    assert not trace.exists()


def test_a_pool_elsewhere_needs_that_permission_too(hypervisor, run, machine):
    def make(connection):
        xml = "<pool type='dir'><name>engine-test-else</name><target><path>/tmp</path></target></pool>"
        return connection.storagePoolCreateXML(xml)

    pool = run(hypervisor.agent.libvirt.call(make))
    try:
        volumes = [{**volume("x"), "pool": "engine-test-else"}]
        result = run(hypervisor.plan(**machine, state="present", domain=domain(), volumes=volumes))
        assert "the pool 'engine-test-else' is no folder below /vm" in result["error"]
    finally:
        run(hypervisor.agent.libvirt.call(lambda connection: pool.destroy()))


def test_a_backing_file_is_looked_at(hypervisor, run, machine):
    def make(connection):
        connection.storagePoolLookupByName("engine-test").createXML(
            "<volume><name>evil</name><capacity>1048576</capacity><target><format type='qcow2'/></target>"
            "<backingStore><path>/etc/hostname</path><format type='raw'/></backingStore></volume>"
        )

    run(hypervisor.agent.libvirt.call(make))
    result = run(hypervisor.plan(**machine, state="present", domain=domain(disk("vda", "evil"))))
    assert "backing file /etc/hostname" in result["error"]


def test_a_backing_file_that_the_definition_states_is_looked_at(hypervisor, run, machine):
    evil, name = machine["name"] + "-evil", machine["name"]

    def make(connection):
        connection.storagePoolLookupByName("engine-test").createXML(
            f"<volume><name>{evil}</name><capacity>1048576</capacity><target><format type='qcow2'/></target>"
            "<backingStore><path>/etc/hostname</path><format type='raw'/></backingStore></volume>"
        )

    run(hypervisor.agent.libvirt.call(make))
    stated = (
        f"<backingStore type='file'><format type='qcow2'/><source file='/vm/engine-test/{evil}'/></backingStore></disk>"
    )
    wanted = domain(disk("vda", name).replace("</disk>", stated))
    result = run(hypervisor.plan(**machine, state="present", domain=wanted, volumes=[volume(name)]))
    assert "host_access" in result["error"] and "backing file /etc/hostname" in result["error"]


def test_a_file_with_the_data_of_an_image_is_looked_at(hypervisor, run, machine, tmp_path):
    """A guest can write such an image into its raw disk; libvirt 9.0 takes it for one without any other file."""
    image, name = tmp_path / "image", machine["name"]
    options = f"data_file={tmp_path}/secret,data_file_raw=on"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-o", options, str(image), "1M"], check=True)
    content = image.read_bytes()

    def make(connection):
        pool = connection.storagePoolLookupByName("engine-test")
        place = pool.createXML(f"<volume><name>{name}</name><capacity>{len(content)}</capacity></volume>")
        stream = connection.newStream()
        place.upload(stream, 0, len(content))
        stream.sendAll(lambda dummy, count, source: source.read(count), io.BytesIO(content))
        stream.finish()

    run(hypervisor.agent.libvirt.call(make))
    wanted = disk("vda", name).replace("<source", "<driver name='qemu' type='qcow2'/><source")
    result = run(hypervisor.plan(**machine, state="present", domain=domain(wanted)))
    assert "host_access" in result["error"] and "keeps its data in another file" in result["error"]


def test_inventory(hypervisor, run, machine):
    run(hypervisor.apply(**machine, state="present", domain=domain(VNC % " passwd='secret'"), autostart=True))
    found = run(hypervisor.ask("inventory", {"names": [machine["name"]], "details": True}))
    assert found["hypervisor"] == "hv1"
    (vm,) = found["vms"]
    assert vm["jid"] == machine["uuid"] + "@archipel.test/hv1"
    assert (vm["state"], vm["managed"], vm["autostart"], vm["memory"]) == ("stopped", True, True, 131072)
    assert vm["definition"]["graphics"] == [{"type": "vnc", "listen": "127.0.0.1", "password": "(set)"}]
    assert run(hypervisor.ask("inventory", {"uuids": ["11111111-2222-4333-8444-555555555555"]}))["vms"] == []


def test_the_normaliser_equals_the_daemon(hypervisor, run):
    assert run(
        hypervisor.agent.normaliser.normalise(
            domain().replace("<domain>", "<domain type='qemu'><name>a</name>"), "qemu"
        )
    )


def test_a_machine_whose_definition_was_not_confirmed_stays_managed(hypervisor, run, machine, monkeypatch):
    define = domains.define

    def define_and_lose_the_answer(*args):
        define(*args)
        raise domains.libvirt.libvirtError("the daemon is gone")

    with monkeypatch.context() as patch:
        patch.setattr(domains, "define", define_and_lose_the_answer)
        assert "daemon is gone" in run(hypervisor.one("apply", **machine, state="present", domain=domain()))["error"]
    assert hypervisor.agent.is_managed(machine["uuid"])
    assert run(hypervisor.apply(**machine, state="present", domain=domain())) == {"uuid": machine["uuid"]}
