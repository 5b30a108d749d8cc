# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is told of a declaration: what libvirt leaves out of it, its XML, and never a secret."""

from __future__ import annotations

import logging

import pytest

from archipel_agent import domains

ADMIN = "admin@archipel.test/test"
PLAIN = "<domain><memory unit='MiB'>%d</memory><os><type arch='x86_64' machine='q35'>hvm</type></os>%s</domain>"
VNC = "<devices><graphics type='vnc' autoport='yes' passwd='%s'/></devices>"
DEAF = "<domain type='qemu'><memory unit='MiB'>32</memory><os><type arch='x86_64' machine='pc'>hvm</type></os></domain>"


def test_what_libvirt_does_not_keep_is_told_every_time(hypervisor, run, machine):
    slips = (
        "<on_crahs>destroy</on_crahs><devices><wachdog model='i6300esb'/><rng model='virtio' speed='9'>%s</rng>"
        "</devices>"
    )
    stated = {**machine, "domain": PLAIN % (64, slips % "<backend model='random'>/dev/urandom</backend>")}
    told = ["devices/rng/@speed", "devices/wachdog", "on_crahs"]
    # A second run, which changes nothing, tells it too: see Hypervisor.apply().
    assert run(hypervisor.apply(**stated, state="present"))["ignored"] == told
    assert run(hypervisor.apply(**{**stated, "domain": PLAIN % (96, "")}, state="present")).get("ignored") is None
    result = run(hypervisor.plan(**machine, domain="<domain><titel>A</titel></domain>", state="present"))
    assert result == {"uuid": machine["uuid"], "ignored": ["titel"]}


def test_a_number_that_libvirt_keeps_as_another_is_told_every_time(hypervisor, run, machine):
    cells = "<cpu><numa><cell id='0' cpus='0' memory='%d' unit='MiB'/></numa></cpu>"

    def told(xml):
        return run(hypervisor.apply(**machine, domain=xml, state="present")).get("ignored")

    assert told(PLAIN % (64, cells % 64)) is None
    # The nodes count.
    assert told("<domain><memory unit='MiB'>96</memory></domain>") == ["memory"]
    assert told("<domain><memory unit='MiB'>96</memory>" + cells % 96 + "</domain>") is None
    # There is not more to have now than in all.
    assert told("<domain><currentMemory unit='MiB'>128</currentMemory></domain>") == ["currentMemory"]
    # libvirt rounds up.
    video = "<devices><video><model type='vga' vram='%d'/></video></devices>"
    assert told(f"<domain>{video % 20480}</domain>") == ["devices/video/model/@vram"]
    assert told(f"<domain>{video % 32768}</domain>") is None


def test_what_states_that_there_is_none_is_kept(hypervisor, run, machine):
    disk = (
        "<devices><disk type='file' device='disk'><driver name='qemu' type='raw' cache='%s'/>"
        "<source file='/vm/iso/guest.iso'/><target dev='vda' bus='virtio'/><iotune><read_iops_sec>%d</read_iops_sec>"
        "<write_iops_sec>%d</write_iops_sec></iotune></disk></devices>"
    )
    for cache, reads, writes in (("default", 0, 0), ("none", 100, 200), ("default", 0, 100), ("default", 0, 0)):
        stated = {**machine, "domain": PLAIN % (64, disk % (cache, reads, writes)), "state": "present"}
        result = run(hypervisor.apply(**stated))
        assert "error" not in result and "ignored" not in result, result
        kept = run(hypervisor.dump(machine["uuid"]))
        assert ("cache=" in kept, "read_iops" in kept, "write_iops" in kept) == (cache == "none", reads > 0, writes > 0)


@pytest.fixture
def forgetful(monkeypatch):
    """A daemon that drops titles."""
    define = domains.define

    def without_title(connection, uuid, expected, xml):
        return define(connection, uuid, expected, xml).replace("<title>A</title>", "")

    monkeypatch.setattr(domains, "define", without_title)


def test_what_the_daemon_keeps_otherwise_than_foretold_is_an_error(hypervisor, run, machine, forgetful):
    titled = PLAIN % (64, "<title>A</title>")
    result = run(hypervisor.one("apply", **machine, domain=titled, state="present"))
    assert result["error"] == "libvirt kept the definition with differences in title"
    assert result["changed"] and result["actions"] == ["define"]


def test_what_the_daemon_does_not_keep_is_told_where_it_cannot_be_foretold(
    hypervisor, run, machine, forgetful, monkeypatch
):
    async def nobody_knows(xml, domain_type):
        return None

    monkeypatch.setattr(hypervisor.agent.normaliser, "normalise", nobody_knows)
    titled = PLAIN % (64, "<title>A</title>")
    result = run(hypervisor.one("apply", **machine, domain=titled, state="present"))
    assert "error" not in result and result["ignored"] == ["title"]


def test_the_xml_is_told_to_who_asks_for_it(hypervisor, run, machine):
    stated = {**machine, "state": "present", "show_xml": True}
    made = run(hypervisor.apply(**stated, domain=PLAIN % (64, VNC % "first1")))["xml"]
    assert 'passwd="(set)"' in made and {line[0] for line in made.splitlines()[3:]} == {"+"}
    changed = run(hypervisor.apply(**stated, domain=PLAIN % (96, VNC % "second")))["xml"].splitlines()
    assert '-  <memory unit="KiB">65536</memory>' in changed and '+  <memory unit="KiB">98304</memory>' in changed
    assert any(line.startswith("+") and 'passwd="(changed)"' in line for line in changed)
    gone = run(hypervisor.apply(**{**stated, "state": "absent"}))["xml"]
    assert {line[0] for line in gone.splitlines()[3:]} == {"-"}
    assert not any(word in f"{made}{changed}{gone}" for word in ("first1", "second"))


def test_a_secret_that_was_on_the_host_before_is_never_told(hypervisor, run, machine, caplog):
    left = f"{machine['uuid']}@old.example::::secret-1"
    domain = (
        f"<domain type='qemu'><name>{machine['name']}</name><uuid>{machine['uuid']}</uuid><description>Sales {left}"
        "</description><memory unit='MiB'>32</memory><os><type arch='x86_64' machine='pc'>hvm</type></os>"
        + VNC % "secret-2"
        + "</domain>"
    )
    run(hypervisor.agent.libvirt.call(lambda connection: connection.defineXML(domain)))
    stated = {**machine, "show_xml": True}
    other = "<devices><graphics type='vnc' passwd='other'/></devices>"
    answers = []

    def ask(action, **wanted):
        answers.append(run(hypervisor.one(action, ADMIN, **stated, **wanted)))

    with caplog.at_level(logging.DEBUG):
        ask("plan", state="running")  # not managed: an error
        run(hypervisor.agent.manage(machine["uuid"], machine["name"]))
        for state in ("present", "running"):
            for part in (
                "<memory unit='MiB'>48</memory>",
                other,
                "<description>Sales</description>",
                "<devices><graphics type='vnc' port='5999' autoport='no'/></devices>",
                "<description/><devices/>",
            ):
                ask("plan", domain=f"<domain>{part}</domain>", state=state, exact=["graphics"])
        ask("apply", state="running", domain=f"<domain>{other}</domain>")
        ask("apply", state="running", domain="<domain><description>Law</description></domain>", apply="next_boot")
        ask("plan", state="absent", force=True)
        answers.append(run(hypervisor.ask("inventory", {"uuids": [machine["uuid"]], "details": True})))
        ask("apply", state="absent", force=True)
    assert [answer for answer in answers if answer.get("error")] == answers[:1]
    assert "secret-" not in str(answers)
    assert "secret-" not in caplog.text and machine["name"] in caplog.text


HANDED_ON = (
    "<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><name>%s</name><uuid>%s</uuid>"
    "<memory unit='MiB'>32</memory><sysinfo type='fwcfg'><entry name='opt/a'>secret-1</entry></sysinfo>"
    "<sysinfo type='smbios'><oemStrings><entry>secret-2</entry></oemStrings></sysinfo>"
    "<os><type arch='x86_64' machine='pc'>hvm</type><smbios mode='sysinfo'/></os><qemu:commandline>"
    "<qemu:arg value='-fw_cfg'/><qemu:arg value='name=opt/b,secret-3'/><qemu:env name='TOKEN' value='secret-4'/>"
    "</qemu:commandline></domain>"
)


def test_what_qemu_is_handed_is_never_told(hypervisor, run, machine, caplog):
    domain = HANDED_ON % (machine["name"], machine["uuid"])
    run(hypervisor.agent.libvirt.call(lambda connection: connection.defineXML(domain)))
    run(hypervisor.agent.manage(machine["uuid"], machine["name"]))
    answers = []

    def ask(action, xml="<domain/>", **wanted):
        answers.append(run(hypervisor.one(action, ADMIN, **machine, show_xml=True, domain=xml, **wanted)))
        return answers[-1]

    with caplog.at_level(logging.DEBUG):
        for number in range(1, 5):
            changed = ask("apply", domain.replace(f"secret-{number}", f"other-{number}"), state="present")
            told = [text.partition(": ")[2] for side in ("before", "after") for text in changed[side]["xml"]]
            assert told == ["(set)", "(changed)"]
            assert "(set)" in changed["xml"] and "(changed)" in changed["xml"]
            ask("apply", domain, state="present")
        # QEMU repeats the option that it does not take.
        failed = ask("apply", domain, state="running")["error"]
        assert "(set)" in failed and "opt/b" not in failed, failed
        answers.append(run(hypervisor.ask("inventory", {"uuids": [machine["uuid"]], "details": True})))
        ask("apply", state="absent", force=True)
        ask("apply", domain, state="running")
    assert not any(word in f"{answers}{caplog.text}" for word in ("secret-", "other-"))


def test_who_does_not_wait_has_asked_the_guest(hypervisor, run, machine):
    run(hypervisor.apply(**machine, domain=DEAF, state="running"))
    result = run(hypervisor.one("apply", **machine, state="stopped", wait=False, shutdown_timeout=3600))
    assert result["actions"] == ["shut down"] and "error" not in result
    (found,) = run(hypervisor.ask("inventory", {"uuids": [machine["uuid"]]}))["vms"]
    assert found["state"] == "running"


def test_snapshots_go_with_their_machine(hypervisor, run, machine):
    name = machine["name"]
    disk = f"<disk type='volume'><source pool='engine-test' volume='{name}'/><target dev='vda' bus='virtio'/></disk>"
    volumes = [{"pool": "engine-test", "name": name, "capacity": 1 << 20, "format": "qcow2"}]
    stated = DEAF.replace("</domain>", f"<devices>{disk}</devices></domain>")
    run(hypervisor.apply(**machine, domain=stated, volumes=volumes, state="present"))

    def snapshot(connection):
        domain = connection.lookupByUUIDString(machine["uuid"])
        domain.snapshotCreateXML("<domainsnapshot><name>first</name></domainsnapshot>")

    run(hypervisor.agent.libvirt.call(snapshot))
    result = run(hypervisor.apply(**machine, state="absent", remove_disks="owned"))
    assert result["actions"] == [f"delete volume engine-test/{name}", "undefine"]
    assert run(hypervisor.ask("inventory", {"uuids": [machine["uuid"]]}))["vms"] == []
