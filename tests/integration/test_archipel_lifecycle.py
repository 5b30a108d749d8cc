# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""A machine's beginning and end on the wire: alloc, clone, soft_alloc and free."""

from __future__ import annotations

import contextlib
import uuid as uuidlib
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

import pytest
from people import CONTROL, DEFINITION, DOMAIN, HYPERVISOR, SECRET, Failed, Machine, answers, until
from xmpp_stream import Refused

DISK = (
    "<disk type='file' device='disk'><driver name='qemu' type='{format}'/><source file='{path}'/>"
    "<target dev='{target}'/></disk>"
)
# What a definition may not have without host_access; see tests/unit/agent/test_host_access.py for every kind.
REACHING = {
    "emulator": "<emulator>/bin/sh</emulator>",
    "disk": "<disk type='file' device='disk'><source file='/etc/shadow'/><target dev='sda'/></disk>",
    "path out of the folder": (
        "<disk type='file' device='disk'><source file='/vm/drives/../../etc/shadow'/><target dev='sda'/></disk>"
    ),
    "block device": "<disk type='block' device='disk'><source dev='/dev/sda'/><target dev='sda'/></disk>",
    "host device": (
        "<hostdev mode='subsystem' type='usb'><source><vendor id='0x1'/><product id='0x2'/></source></hostdev>"
    ),
    "file system": "<filesystem><source dir='/'/><target dir='host'/></filesystem>",
    "character in a file": "<serial type='file'><source path='/tmp/x'/><target port='0'/></serial>",
    "script": "<interface type='ethernet'><script path='/bin/true'/></interface>",
}
COMMAND_LINE = "<commandline xmlns='http://libvirt.org/schemas/domain/qemu/1.0'><arg value='-snapshot'/></commandline>"


class Made(Machine):
    """A machine that an agent made."""

    def __init__(self, platform, answer: ET.Element) -> None:
        super().__init__(platform)
        self.bare = answer[0].get("jid")
        self.uuid = self.bare.partition("@")[0]
        self.jid = f"{self.bare}/{self.host}"
        self.name = ""

    def xml(self) -> ET.Element:
        return ET.fromstring(self.virsh("dumpxml --inactive --security-info"))


@pytest.fixture
def made(platform, automation, hypervisor):
    """Machines by the action that makes them; those that are left are freed."""
    found = []

    def made(action: str, content: str = "", person=None, **attributes: str) -> Made:
        machine = Made(platform, (person or automation).act(hypervisor, HYPERVISOR, action, content, **attributes))
        found.append(machine)
        until(lambda: answers_at_all(automation, machine.jid))
        return machine

    yield made
    for machine in found:
        with contextlib.suppress(Failed, Refused):
            automation.act(hypervisor, HYPERVISOR, "free", jid=machine.bare)


def answers_at_all(person, jid) -> bool:
    """Whether an entity is online, whatever it answers."""
    try:
        return answers(person, jid) is not None
    except Failed:
        return True


@pytest.fixture
def volume(platform):
    """Makes volumes in the pool of the first hypervisor."""
    host, names = platform.hypervisors[0], []

    def volume(form: str, size: str = "8M") -> str:
        name = f"actions-{uuidlib.uuid4().hex[:8]}.{form}"
        platform.run(host, f"virsh -q vol-create-as default {name} {size} --format {form}")
        names.append(name)
        return platform.run(host, f"virsh -q vol-path --pool default {name}").strip()

    yield volume
    for name in names:
        platform.run(host, f"virsh -q vol-delete --pool default {name}", check=False)


def files(platform) -> set[str]:
    return set(platform.run(platform.hypervisors[0], "ls /vm/drives").split())


def plain(name: str = "", devices: str = "") -> str:
    """A definition as a person writes it, without a UUID."""
    xml = DOMAIN.format(name=name, uuid="", devices=devices).replace("<uuid></uuid>", "")
    return xml if name else xml.replace("<name></name>", "")


def name_of(prefix: str = "made") -> str:
    return f"{prefix}-{uuidlib.uuid4().hex[:8]}"


def accounts(platform) -> str:
    return platform.run(platform.xmpp, f"ejabberdctl registered_users {platform.domain}")


# alloc


def test_an_entity_without_a_definition(made, platform, automation, hypervisor):
    name = name_of()
    machine = made("alloc", name=name)
    assert automation.act(machine.jid, CONTROL, "xmldesc")[0].tag.endswith("not-defined")
    listed = {item.text: item.get("name") for item in automation.act(hypervisor, HYPERVISOR, "rostervm")}
    assert listed[machine.jid] == name
    automation.act(machine.jid, DEFINITION, "define", DOMAIN.format(name=name, uuid=machine.uuid, devices=""))
    assert machine.virsh("domstate") == "shut off"
    for taken in (name, name.upper()):
        with pytest.raises(Failed, match=f"'{taken}' is that of the virtual machine {machine.uuid}") as raised:
            automation.act(hypervisor, HYPERVISOR, "alloc", name=taken)
        assert raised.value.code == -9001
    assert made("alloc").bare != machine.bare


def test_an_entity_with_its_definition(made, platform, automation, hypervisor):
    name = name_of()
    screen = f"<graphics type='vnc' passwd='{SECRET[:8]}'/>"
    machine = made("alloc", DOMAIN.format(name="other", uuid=uuidlib.uuid4(), devices=screen), name=name)
    xml = machine.xml()
    assert (xml.findtext("name"), xml.findtext("uuid")) == (name, machine.uuid)
    assert xml.find("devices/graphics").get("passwd") == SECRET[:8]
    assert made("alloc", plain(name_of("own"))).xml().findtext("name").startswith("own-")


def test_a_name_that_a_domain_of_somebody_else_has(domain, automation, hypervisor):
    domain.define()
    with pytest.raises(Failed, match=f"'{domain.name}' is that of the domain {domain.uuid}"):
        automation.act(hypervisor, HYPERVISOR, "alloc", name=domain.name)
    for wrong in ("a/b", "a\tb", "x" * 201):
        with pytest.raises(Failed, match="cannot name a virtual machine"):
            automation.act(hypervisor, HYPERVISOR, "alloc", name=wrong)


def test_what_libvirt_refuses_is_no_machine(platform, automation, log_in, hypervisor):
    before, name = accounts(platform), name_of()
    # For an administrator the definition is not looked at, so that the entity is there when libvirt refuses.
    with pytest.raises(Failed) as raised:
        log_in("admin").act(hypervisor, HYPERVISOR, "alloc", plain(name).replace("q35", "no-such-board"))
    assert raised.value.kind == "libvirt-error-generic"
    until(lambda: accounts(platform) == before)
    assert name not in {item.get("name") for item in automation.act(hypervisor, HYPERVISOR, "rostervm")}


@pytest.mark.parametrize("reaching", REACHING)
def test_a_definition_that_reaches_into_the_host_is_not_made(platform, automation, hypervisor, reaching):
    before = accounts(platform)
    with pytest.raises(Failed, match="host_access"):
        automation.act(hypervisor, HYPERVISOR, "alloc", plain(name_of(), REACHING[reaching]))
    assert accounts(platform) == before


def test_a_command_line_of_qemu_is_not_made(automation, hypervisor):
    xml = plain(name_of()).replace("</domain>", COMMAND_LINE + "</domain>")
    with pytest.raises(Failed, match="host_access"):
        automation.act(hypervisor, HYPERVISOR, "alloc", xml)


def test_who_makes_a_machine_may_use_it_and_nobody_else(made, account, log_in, hypervisor):
    maker, other = account("maker"), account("other")
    for person in (maker, other):
        with pytest.raises(Failed, match="lacks the permission 'alloc'"):
            person.act(hypervisor, HYPERVISOR, "alloc")
    permission = (
        "<permission permission_type='user' permission_target='{}' permission_name='alloc' permission_value='{}'/>"
    )
    target = f"maker@{maker.domain}"
    log_in("admin").act(hypervisor, "archipel:permissions", "set", permission.format(target, "true"))
    try:
        machine = made("alloc", plain(name_of()), person=maker)
    finally:
        log_in("admin").act(hypervisor, "archipel:permissions", "set", permission.format(target, "false"))
    assert maker.act(machine.jid, CONTROL, "info")[0].get("state") == "5"
    assert maker.hears(machine.bare, "subscribe").findtext("{http://jabber.org/protocol/nick}nick")
    with pytest.raises(Failed, match="host_access"):
        devices = DOMAIN.format(name=name_of(), uuid=machine.uuid, devices=REACHING["disk"])
        maker.act(machine.jid, DEFINITION, "define", devices)
    with pytest.raises(Failed, match="lacks the permission 'info'"):
        other.act(machine.jid, CONTROL, "info")


def test_what_is_not_defined_says_so(made, automation):
    machine = made("alloc", name=name_of())
    for action, attributes in (
        ("reboot", {}),
        ("autostart", {"value": "1"}),
        ("memory", {"value": "65536"}),
        ("setvcpus", {"value": "1"}),
        ("networkinfo", {}),
    ):
        with pytest.raises(Failed, match="is not defined"):
            automation.act(machine.jid, CONTROL, action, **attributes)


# free


@pytest.mark.parametrize("state", ["off", "running"])
def test_free(made, platform, automation, hypervisor, volume, state):
    path = volume("qcow2")
    machine = made("alloc", plain(name_of(), DISK.format(format="qcow2", path=path, target="vda")))
    if state == "running":
        automation.act(machine.jid, CONTROL, "create")
    (answer,) = automation.act(hypervisor, HYPERVISOR, "free", jid=machine.bare)
    assert answer.get("jid") == machine.bare
    assert machine.uuid not in machine.run("virsh list --all --uuid")
    assert machine.uuid not in accounts(platform)
    assert path.rpartition("/")[2] in files(platform)
    with pytest.raises(Failed, match="manages no virtual machine") as raised:
        automation.act(hypervisor, HYPERVISOR, "free", jid=machine.bare)
    assert raised.value.code == -9002


def test_a_machine_frees_itself(made, platform, automation):
    machine = made("alloc", plain(name_of()))
    assert len(automation.act(machine.jid, CONTROL, "free")) == 0
    assert machine.uuid not in machine.run("virsh list --all --uuid")
    until(lambda: machine.uuid not in accounts(platform))


# clone


def test_clone(made, platform, automation, hypervisor, volume):
    paths = {"vda": volume("qcow2"), "vdb": volume("qcow2")}
    host = platform.hypervisors[0]
    for target, byte in (("vda", "0x41"), ("vdb", "0x42")):
        platform.run(host, f"qemu-io -f qcow2 -c 'write -P {byte} 0 512' {paths[target]}")
    disks = "".join(
        DISK.format(format=path.rpartition(".")[2], path=path, target=target) for target, path in paths.items()
    )
    media = "<disk type='file' device='cdrom'><source file='/vm/iso/guest.iso'/><target dev='sda'/></disk>"
    screen = f"<graphics type='vnc' passwd='{SECRET[:8]}'/>"
    networks = "<interface type='network'><source network='default'/></interface>"
    xml = plain(name_of("parent"), disks + media + screen + networks).replace("<os>", "<genid/><os>")
    parent = made("alloc", xml)
    name = name_of("child")
    child = made("clone", jid=parent.bare, name=name)
    before, after = parent.xml(), child.xml()
    assert (after.findtext("name"), after.findtext("uuid")) == (name, child.uuid)
    assert after.find("devices/graphics").get("passwd") == SECRET[:8]
    for path in ("genid", "devices/interface/mac"):
        old, new = before.find(path), after.find(path)
        assert (old.text, old.attrib) != (new.text, new.attrib)
    copies = {disk.find("target").get("dev"): disk.find("source").get("file") for disk in after.iter("disk")}
    assert copies.pop("sda") == "/vm/iso/guest.iso"
    assert not set(copies.values()) & set(paths.values())
    for target, byte in (("vda", "0x41"), ("vdb", "0x42")):
        assert "verification" not in platform.run(host, f"qemu-io -f qcow2 -c 'read -P {byte} 0 512' {copies[target]}")
    assert len(set(platform.run(host, f"stat -c '%a %U' {' '.join(copies.values())}").splitlines())) == 1
    automation.act(child.jid, CONTROL, "create")
    with pytest.raises(Failed, match="is running; stop it before it is cloned") as raised:
        automation.act(hypervisor, HYPERVISOR, "clone", jid=child.bare)
    assert raised.value.code == -9004
    with pytest.raises(Failed, match=f"'{name}' is that of the virtual machine"):
        automation.act(hypervisor, HYPERVISOR, "clone", jid=parent.bare, name=name)
    automation.act(hypervisor, HYPERVISOR, "free", jid=child.bare)
    platform.run(host, f"rm {' '.join(copies.values())}; virsh -q pool-refresh default")


def test_a_clone_without_a_name_of_its_own(made):
    parent = made("alloc", plain(name_of("parent")))
    child = made("clone", jid=parent.bare)
    assert child.xml().findtext("name").endswith(f" (clone of {parent.xml().findtext('name')})")


def test_what_cannot_be_cloned(made, platform, automation, hypervisor, volume):
    before = files(platform), accounts(platform)
    for jid in (f"{uuidlib.uuid4()}@{platform.domain}", "", "hv1@archipel.test"):
        with pytest.raises(Failed, match="manages no virtual machine") as raised:
            automation.act(hypervisor, HYPERVISOR, "clone", jid=jid)
        assert raised.value.code == -9004
    empty = made("alloc", name=name_of())
    with pytest.raises(Failed, match="is not defined"):
        automation.act(hypervisor, HYPERVISOR, "clone", jid=empty.bare)
    automation.act(hypervisor, HYPERVISOR, "free", jid=empty.bare)
    # A volume that is gone: the first disk is copied, the second cannot be.
    paths = [volume("qcow2"), volume("raw")]
    disks = "".join(
        DISK.format(format=path.rpartition(".")[2], path=path, target=target)
        for path, target in zip(paths, ("vda", "vdb"))
    )
    parent = made("alloc", plain(name_of("parent"), disks))
    platform.run(platform.hypervisors[0], f"rm {paths[1]}; virsh -q pool-refresh default")
    with pytest.raises(Failed, match="vdb is in the file .* which no active storage pool has"):
        automation.act(hypervisor, HYPERVISOR, "clone", jid=parent.bare)
    automation.act(hypervisor, HYPERVISOR, "free", jid=parent.bare)
    until(lambda: (files(platform) - {path.rpartition("/")[2] for path in paths}, accounts(platform)) == before)


def test_what_reaches_into_the_host_is_not_copied_for_who_may_not(made, platform, automation, log_in, hypervisor):
    machine = made("alloc", plain(name_of("parent"), REACHING["character in a file"]), person=log_in("admin"))
    before = accounts(platform)
    with pytest.raises(Failed, match="host_access"):
        automation.act(hypervisor, HYPERVISOR, "clone", jid=machine.bare)
    assert accounts(platform) == before


def test_a_backing_file_of_the_host_does_not_become_a_copy(made, platform, automation, log_in, hypervisor, volume):
    path = volume("qcow2")
    platform.run(platform.hypervisors[0], f"qemu-img create -q -f qcow2 -b /etc/hostname -F raw {path}")
    xml = plain(name_of("parent"), DISK.format(format="qcow2", path=path, target="vda"))
    machine = made("alloc", xml, person=log_in("admin"))
    before = files(platform)
    with pytest.raises(Failed, match="backing file /etc/hostname is outside"):
        automation.act(hypervisor, HYPERVISOR, "clone", jid=machine.bare)
    assert files(platform) == before


CLAIMED = "<machine><volume pool='default' name='another'/></machine>"
CLAIM = "<machine xmlns='archipel:declaration'><volume pool='default' name='another'/></machine>"


def test_nobody_claims_volumes_of_others(made, platform, automation):
    """What declarations made for a machine goes with it, so only they say what that is."""
    xml = plain(name_of("parent")).replace("<memory", f"<metadata>{CLAIM}</metadata><memory", 1)
    parent = made("alloc", xml)
    assert "archipel:declaration" not in parent.virsh("dumpxml")
    parent.run(f'virsh -q metadata {parent.uuid} --config --uri archipel:declaration --key m --set "{CLAIMED}"')
    assert "archipel:declaration" in parent.virsh("dumpxml")
    assert "archipel:declaration" not in made("clone", jid=parent.bare).virsh("dumpxml")


# soft_alloc


def arriving(uuid: str, password: str, devices: str = "", domain: str = "archipel.test") -> str:
    described = f"<description>{uuid}@{domain}::::{escape(password)}</description>"
    return DOMAIN.format(name=f"arriving-{uuid[:8]}", uuid=uuid, devices=devices).replace(
        "<memory", described + "<memory"
    )


@pytest.fixture
def arrived(platform, automation, hypervisor):
    """Frees what a test has brought."""
    uuids = []
    yield uuids
    for uuid in uuids:
        with contextlib.suppress(Failed):
            automation.act(hypervisor, HYPERVISOR, "free", jid=f"{uuid}@{platform.domain}")


def test_a_machine_comes_with_its_account(machine, arrived, platform, automation, hypervisor):
    uuid, password = machine
    arrived.append(uuid)
    automation.act(hypervisor, HYPERVISOR, "soft_alloc", arriving(uuid, password))
    jid = f"{uuid}@{platform.domain}/{platform.hypervisors[0]}"
    assert automation.act(jid, CONTROL, "info")[0].get("state") == "5"
    xml = platform.run(platform.hypervisors[0], f"virsh dumpxml {uuid}")
    assert "description" not in xml and password not in xml and "arriving>" not in xml
    # The old password is worth nothing any more.
    with pytest.raises(Refused, match="not-authorized"), platform.stream() as stream:
        stream.login(uuid, password)
    with pytest.raises(Failed, match=f"has a virtual machine {uuid} already") as raised:
        automation.act(hypervisor, HYPERVISOR, "soft_alloc", arriving(uuid, password))
    assert raised.value.code == -9007


def test_a_machine_does_not_come_with_a_wrong_password(machine, platform, automation, hypervisor):
    uuid, password = machine
    with pytest.raises(Failed, match=f"the password in <description> is not that of {uuid}"):
        automation.act(hypervisor, HYPERVISOR, "soft_alloc", arriving(uuid, "guessed"))
    assert uuid not in platform.run(platform.hypervisors[0], "virsh list --all --uuid")
    assert uuid not in ET.tostring(automation.act(hypervisor, HYPERVISOR, "rostervm"), encoding="unicode")
    with platform.stream() as stream:
        stream.login(uuid, password)


@pytest.mark.parametrize("reaching", REACHING)
def test_a_machine_that_reaches_into_the_host_does_not_come(machine, platform, automation, hypervisor, reaching):
    uuid, password = machine
    with pytest.raises(Failed, match="host_access"):
        automation.act(hypervisor, HYPERVISOR, "soft_alloc", arriving(uuid, password, REACHING[reaching]))
    assert uuid not in platform.run(platform.hypervisors[0], "virsh list --all --uuid")


def test_a_machine_that_is_here_is_not_replaced(machine, domain, automation, hypervisor):
    domain.define()
    before = domain.virsh("dumpxml")
    with pytest.raises(Failed, match=f"has a virtual machine {domain.uuid} already"):
        automation.act(hypervisor, HYPERVISOR, "soft_alloc", arriving(domain.uuid, "any"))
    assert domain.virsh("dumpxml") == before


def test_a_machine_must_say_whose_account_it_has(machine, automation, hypervisor):
    uuid, password = machine
    for xml, message in (
        (DOMAIN.format(name="x", uuid=uuid, devices=""), "<description> must be"),
        (arriving(uuid, ""), "<description> must be"),
        (arriving(uuid, password, domain="elsewhere.org"), "<description> must be"),
        (arriving("hv1", password), "<description> must be"),
        (arriving(uuid, password).replace(f"<uuid>{uuid}", f"<uuid>{uuidlib.uuid4()}"), "<uuid> must be"),
        ("", "soft_alloc needs a <domain/>"),
    ):
        with pytest.raises(Failed, match=message):
            automation.act(hypervisor, HYPERVISOR, "soft_alloc", xml)
