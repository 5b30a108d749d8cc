# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The agent on the wire: a machine made with plain virsh becomes an XMPP entity, is steered, survives, and is released.

Every test uses a machine of its own on the first hypervisor, made and removed with virsh.
"""

from __future__ import annotations

import json
import time
import uuid as uuidlib
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

import pytest
from people import CONTROL, DEFINITION, DOMAIN, HYPERVISOR, SECRET, Failed, Machine, answers, manage, until
from xmpp_stream import Refused


def roster(person, hypervisor):
    return {item.text: item.get("managed") for item in person.act(hypervisor, HYPERVISOR, "rostervm")}


def state(person, jid):
    return int(person.act(jid, CONTROL, "info")[0].get("state"))


def test_what_virsh_defined_becomes_an_entity_and_is_released_again(domain, automation, hypervisor):
    domain.define()
    assert roster(automation, hypervisor)[domain.bare] == "False"
    manage(automation, hypervisor, domain)
    assert roster(automation, hypervisor)[domain.jid] == "True"
    automation.act(hypervisor, HYPERVISOR, "manage", f"<item jid='{domain.bare}'/>")  # again
    automation.act(hypervisor, HYPERVISOR, "unmanage", f"<item jid='{domain.bare}'/>")
    assert roster(automation, hypervisor)[domain.bare] == "False"
    with pytest.raises(Refused, match="service-unavailable"):
        automation.act(domain.jid, CONTROL, "info")
    assert domain.virsh("domstate") == "shut off"
    listed = domain.platform.run(domain.platform.xmpp, f"ejabberdctl registered_users {domain.platform.domain}")
    assert domain.uuid not in listed


def test_power(managed, automation):
    assert automation.act(managed.jid, CONTROL, "create")[0].get("id").isdigit()
    assert state(automation, managed.jid) == 1
    automation.act(managed.jid, CONTROL, "suspend")
    assert state(automation, managed.jid) == 3
    automation.act(managed.jid, CONTROL, "resume")
    automation.act(managed.jid, CONTROL, "shutdown")
    automation.act(managed.jid, CONTROL, "destroy")
    automation.act(managed.jid, CONTROL, "destroy")
    assert state(automation, managed.jid) == 5
    with pytest.raises(Failed) as raised:
        automation.act(managed.jid, CONTROL, "suspend")
    assert (raised.value.kind, raised.value.code) == ("libvirt-error-generic", 55)


def test_presence_follows_virsh(managed, automation, hypervisor):
    automation.stream.write(f"<presence type='subscribe' to='{managed.bare}'/>")
    assert automation.shows(managed.jid, "Off") == "xa"
    for command, status, show in (
        ("start", "Running", ""),
        ("suspend", "Paused", "away"),
        ("resume", "Running", ""),
        ("destroy", "Off", "xa"),
        ("undefine", "Not defined", "xa"),
    ):
        managed.virsh(command)
        assert automation.shows(managed.jid, status) == show
    with pytest.raises(Failed, match="is not defined"):
        automation.act(managed.jid, CONTROL, "create")
    managed.define()
    assert automation.shows(managed.jid, "Off") == "xa"


def test_the_definition_is_shown_without_secrets_and_keeps_them(managed, automation):
    shown = automation.act(managed.jid, CONTROL, "xmldesc")[0]
    text = ET.tostring(shown, encoding="unicode")
    assert managed.name in text and SECRET[:8] not in text
    for element in shown.iter():
        element.tag = element.tag.partition("}")[2]
    automation.act(managed.jid, DEFINITION, "define", ET.tostring(shown, encoding="unicode"))
    assert SECRET[:8] in managed.virsh("dumpxml --security-info")


def test_a_definition_must_be_the_machines_own(managed, automation):
    other = DOMAIN.format(name="other", uuid=uuidlib.uuid4(), devices="")
    with pytest.raises(Failed, match="must be " + managed.uuid) as raised:
        automation.act(managed.jid, DEFINITION, "define", other)
    assert raised.value.code == -1007
    with pytest.raises(Failed, match="needs a <domain/>"):
        automation.act(managed.jid, DEFINITION, "define")


REACHING = {
    "hostdev": "<hostdev mode='subsystem' type='usb'><source><vendor id='0x1'/><product id='0x2'/></source></hostdev>",
    "disk": "<disk type='file' device='disk'><source file='/etc/shadow'/><target dev='sda'/></disk>",
    "block": "<disk type='block' device='disk'><source dev='/dev/sda'/><target dev='sda'/></disk>",
    "filesystem": "<filesystem><source dir='/'/><target dir='host'/></filesystem>",
    "serial": "<serial type='file'><source path='/tmp/x'/><target port='0'/></serial>",
    "emulator": "<emulator>/bin/sh</emulator>",
}


@pytest.mark.parametrize("devices", REACHING.values(), ids=REACHING)
def test_a_definition_that_reaches_into_the_host_needs_a_permission_of_its_own(managed, automation, devices):
    before = managed.virsh("dumpxml")
    with pytest.raises(Failed, match="host_access"):
        xml = DOMAIN.format(name=managed.name, uuid=managed.uuid, devices=devices)
        automation.act(managed.jid, DEFINITION, "define", xml)
    assert managed.virsh("dumpxml") == before


def test_root_administrators_have_host_access(managed, log_in):
    xml = DOMAIN.format(name=managed.name, uuid=managed.uuid, devices=REACHING["serial"])
    log_in("admin").act(managed.jid, DEFINITION, "define", xml)
    assert "/tmp/x" in managed.virsh("dumpxml")


@pytest.fixture
def another(platform):
    made = Machine(platform)
    made.define()
    yield made
    made.remove()


def test_an_inventory_is_read_page_by_page(managed, another, automation, hypervisor):
    def inventory(**request):
        query = automation.act(hypervisor, "archipel:declaration", "inventory", json.dumps(request))
        return json.loads(query.text)

    everything, pages, after = inventory(details=True), [], {}
    assert "next" not in everything and len(everything["vms"]) > 1
    while True:
        pages.append(inventory(details=True, max=1, **after))
        if "next" not in pages[-1]:
            break
        after = {"after": pages[-1]["next"]}
    assert [page["vms"] for page in pages] == [[vm] for vm in everything["vms"]]


def test_undefine(managed, automation):
    automation.act(managed.jid, CONTROL, "create")
    with pytest.raises(Failed, match="is running; stop it first"):
        automation.act(managed.jid, DEFINITION, "undefine")
    automation.act(managed.jid, CONTROL, "destroy")
    automation.act(managed.jid, DEFINITION, "undefine")
    assert automation.act(managed.jid, CONTROL, "xmldesc")[0].tag.endswith("not-defined")


def test_the_unknown_is_not_implemented(managed, automation, hypervisor):
    for to, namespace in ((hypervisor, HYPERVISOR), (managed.jid, CONTROL), (hypervisor, "archipel:unheard-of")):
        with pytest.raises(Refused, match="feature-not-implemented"):
            automation.act(to, namespace, "fly")
    with pytest.raises(Refused, match="feature-not-implemented"):
        automation.stream.ask("get", "<query xmlns='jabber:iq:unheard-of'/>", hypervisor)


def test_ping_and_disco(managed, automation, hypervisor):
    for jid, namespace in ((hypervisor, HYPERVISOR), (managed.jid, CONTROL)):
        automation.stream.ask("get", "<ping xmlns='urn:xmpp:ping'/>", jid)
        info = automation.stream.ask("get", "<query xmlns='http://jabber.org/protocol/disco#info'/>", jid)[0]
        assert namespace in {feature.get("var") for feature in info}


@pytest.mark.parametrize("action", ["manage", "unmanage"])
def test_who_is_not_there_is_told(automation, hypervisor, action):
    missing = f"{uuidlib.uuid4()}@{automation.domain}"
    with pytest.raises(Failed, match=missing.partition("@")[0]):
        automation.act(hypervisor, HYPERVISOR, action, f"<item jid='{missing}'/>")
    for wrong in ("<item jid='hv2@archipel.test'/>", f"<item jid='{uuidlib.uuid4()}@elsewhere.org'/>", ""):
        with pytest.raises(Failed) as raised:
            automation.act(hypervisor, HYPERVISOR, action, wrong)
        assert raised.value.code == -42


def test_nobody_may_do_anything_without_a_grant(managed, machine, log_in, hypervisor):
    stranger = log_in(*machine)
    stranger.stream.write(f"<presence type='subscribe' to='{managed.bare}'/>")
    requests = [(hypervisor, HYPERVISOR, action) for action in ("rostervm", "manage", "unmanage")]
    requests += [(hypervisor, "archipel:declaration", name) for name in ("inventory", "plan", "apply", "migrate")]
    requests += [(hypervisor, "archipel:handover", name) for name in ("query", "offer", "claim", "make")]
    controls = ("info", "create", "shutdown", "destroy", "suspend", "resume", "migrate", "xmldesc")
    requests += [(managed.jid, CONTROL, action) for action in controls]
    requests += [(managed.jid, DEFINITION, action) for action in ("define", "undefine")]
    for to, namespace, action in requests:
        with pytest.raises(Failed, match="lacks the permission") as raised:
            stranger.act(to, namespace, action)
        assert (raised.value.kind, raised.value.code) == ("archipel-error-permission", -1)
    assert managed.virsh("domstate") == "shut off"
    kinds = {presence.get("type") for presence in stranger.presences if presence.get("from") == managed.bare}
    assert kinds == {"unsubscribed"}


def test_an_account_is_taken_from_peers_only_and_for_domains_that_are_here_only(platform, managed, log_in, hypervisor):
    offer = '{"uuid": "%s", "name": "x", "password": "y"}'
    for somebody in ("automation", "admin"):
        with pytest.raises(Failed, match="lacks the permission 'peer'"):
            log_in(somebody).act(hypervisor, "archipel:handover", "offer", escape(offer % managed.uuid))
    peer = log_in(platform.hypervisors[1])
    with pytest.raises(Failed, match="so its account is not taken"):
        peer.act(hypervisor, "archipel:handover", "offer", escape(offer % uuidlib.uuid4()))
    # One that is managed here already keeps its own password.
    peer.act(hypervisor, "archipel:handover", "offer", escape(offer % managed.uuid))
    with pytest.raises(Refused, match="not-authorized"), platform.stream() as stream:
        stream.login(managed.uuid, "y")


def test_a_domain_that_was_here_before_is_nobodys_to_hand_over(platform, domain, automation, log_in, hypervisor):
    domain.define()
    offer = '{"uuid": "%s", "name": "x", "password": "y", "autostart": true, "grants": [["mallory@%s", "all"]]}'
    peer = log_in(platform.hypervisors[1])
    asked = f'{{"uuid": "{domain.uuid}", "announced": true}}'
    peer.act(hypervisor, "archipel:handover", "query", escape(asked))
    with pytest.raises(Failed, match="so its account is not taken"):
        peer.act(hypervisor, "archipel:handover", "offer", escape(offer % (domain.uuid, platform.domain)))
    assert roster(automation, hypervisor)[domain.bare] == "False"
    assert "disable" in domain.run(f"virsh dominfo {domain.uuid} | grep -i autostart")


def test_a_migration_that_cannot_be_is_refused_in_a_sentence(platform, managed, automation):
    where, elsewhere = (f"{host}@{platform.domain}/{host}" for host in platform.hypervisors[:2])
    with pytest.raises(Failed, match="is on .* already"):
        automation.act(managed.jid, CONTROL, "migrate", hypervisorjid=where)
    with pytest.raises(Failed, match="knows no hypervisor 'hv9' to move to; its peers are: "):
        automation.act(managed.jid, CONTROL, "migrate", hypervisorjid=f"hv9@{platform.domain}/hv9")
    with pytest.raises(Failed, match="must be the JID of a hypervisor"):
        automation.act(managed.jid, CONTROL, "migrate", hypervisorjid="hv2@elsewhere.org/hv2")
    platform.run(platform.hypervisors[1], "systemctl stop archipel-agent")
    try:
        with pytest.raises(Failed, match=f"hypervisor {platform.hypervisors[1]}'s agent is offline"):
            automation.act(managed.jid, CONTROL, "migrate", hypervisorjid=elsewhere)
    finally:
        platform.run(platform.hypervisors[1], "systemctl start archipel-agent")
    assert managed.virsh("domstate") == "shut off"


def test_a_stopped_machine_moves_with_its_account_and_autostart(platform, managed, automation):
    target = platform.hypervisors[1]
    managed.virsh("autostart")
    automation.act(managed.jid, CONTROL, "migrate", hypervisorjid=f"{target}@{platform.domain}/{target}")
    try:
        assert managed.uuid not in managed.run("virsh list --all --uuid")
        moved = automation.act(f"{managed.bare}/{target}", CONTROL, "info")[0]
        assert (moved.get("hypervisor"), moved.get("autostart")) == (f"{target}@{platform.domain}/{target}", "1")
    finally:
        back = f"{managed.host}@{platform.domain}/{managed.host}"
        automation.act(f"{managed.bare}/{target}", CONTROL, "migrate", hypervisorjid=back)
    assert state(automation, managed.jid) == 5


def test_a_killed_agent_comes_back_and_the_machine_does_not_notice(managed, automation):
    automation.act(managed.jid, CONTROL, "create")
    process = managed.run(f"pgrep -f guest={managed.name}").split()
    managed.run("systemctl kill --signal=KILL archipel-agent")
    until(lambda: answers(automation, managed.jid))
    assert state(automation, managed.jid) == 1
    assert managed.run(f"pgrep -f guest={managed.name}").split() == process


def test_the_agent_stops_within_seconds(managed, automation):
    begin = time.monotonic()
    managed.run("systemctl stop archipel-agent")
    assert time.monotonic() - begin < 5
    managed.run("systemctl start archipel-agent")
    assert managed.run("systemctl show -P Result archipel-agent").strip() == "success"
    until(lambda: answers(automation, managed.jid))


def test_libvirt_comes_and_goes(managed, automation):
    automation.stream.write(f"<presence type='subscribe' to='{managed.bare}'/>")
    automation.shows(managed.jid, "Off")
    managed.run("systemctl restart libvirtd")
    assert automation.shows(managed.jid, "Libvirt connection lost") == "dnd"
    assert automation.shows(managed.jid, "Off") == "xa"
    # Events of the new daemon come, too.
    managed.virsh("start")
    automation.shows(managed.jid, "Running")


def test_no_password_is_told_to_anybody(platform, managed):
    reader = "import sqlite3; [print(row[0]) for row in sqlite3.connect('{}').execute('SELECT password FROM {}')]"
    command = reader.format("/var/lib/archipel/hypervisor.sqlite3", "virtualmachines")
    passwords = [*managed.run(f'python3 -c "{command}"').split(), platform.password(managed.host), SECRET[:8]]
    assert len(passwords) >= 3
    said = managed.run("journalctl -u archipel-agent; cat /var/log/archipel/archipel.log; ps axww -o args")
    assert not [password for password in passwords if password in said]
    modes = managed.run("stat -c '%a %U' /var/lib/archipel /var/lib/archipel/hypervisor.sqlite3 /etc/archipel/password")
    assert modes.split() == ["700", "archipel", "600", "archipel", "640", "root"]
