# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""A person talks to a machine and to its hypervisor, through the real server: in words, and from a menu."""

from __future__ import annotations

import secrets
import uuid as uuidlib

import pytest
from people import CONTROL
from xmpp_stream import CLIENT, Refused

COMMANDS = "http://jabber.org/protocol/commands"
DISCO = "http://jabber.org/protocol/disco"
QUIET = "<delay xmlns='urn:xmpp:delay' stamp='2026-01-01T00:00:00Z'/>"


def say(person, to, text, more="", kind="chat"):
    person.stream.write(f"<message type='{kind}' to='{to}'><body>{text}</body>{more}</message>")


def hear(person, sender):
    """The next words of an entity, as an element."""
    while True:
        stanza = person.stream.read()
        if stanza.tag == CLIENT + "message" and stanza.get("from") == sender:
            return stanza


def talk(person, to, text, more=""):
    say(person, to, text, more)
    return hear(person, to).findtext(CLIENT + "body")


@pytest.fixture
def stranger(account):
    return account("stranger-" + secrets.token_hex(4))


def state(person, jid):
    return int(person.act(jid, CONTROL, "info")[0].get("state"))


def test_a_machine_does_what_it_is_told(managed, automation):
    assert talk(automation, managed.jid, "state") == f"{managed.name} is stopped"
    assert talk(automation, managed.jid, "Start!") == f"{managed.name} is started"
    assert managed.virsh("domstate") == "running"
    assert "memory: 128 MiB of 128 MiB" in talk(automation, managed.jid, "how are you?")
    assert talk(automation, managed.jid, "power off") == f"{managed.name} is powered off"
    assert state(automation, managed.jid) == 5
    assert "is not running" in talk(automation, managed.jid, "pause")
    assert talk(automation, managed.jid, "fly").startswith("I understand:\nstate: ")


@pytest.fixture
def operator(account, automation, managed, hypervisor):
    """Somebody with all permissions who has not said anything yet: who says too much has to wait."""
    name = "operator-" + secrets.token_hex(4)
    person = account(name)
    grant = (
        f"<permission permission_type='user' permission_target='{name}@{automation.domain}' permission_name='all'"
        " permission_value='{}'/>"
    )
    for jid in (managed.jid, hypervisor):
        automation.act(jid, "archipel:permissions", "set", grant.format("true"))
    yield person
    for jid in (managed.jid, hypervisor):
        automation.act(jid, "archipel:permissions", "set", grant.format("false"))


def test_a_hypervisor_makes_copies_and_removes_machines(managed, operator, hypervisor):
    def made(text):
        answer = talk(operator, hypervisor, text)
        assert " is made; its address is " in answer
        return answer.rpartition(" ")[2]

    name = "words-" + secrets.token_hex(4)
    for address in (made(f"alloc {name}"), made(f"clone {managed.name} {name}-copy")):
        assert address in talk(operator, hypervisor, "list")
        assert talk(operator, hypervisor, f"free {address}") == f"{address} is removed; its disks stay"
    assert name not in talk(operator, hypervisor, "list")


def test_a_machine_is_changed_in_words(managed, operator, hypervisor):
    assert talk(operator, managed.jid, "memory 96 MiB") == f"the memory of {managed.name} is set"
    assert "at most" in talk(operator, managed.jid, "vcpus 64")
    assert talk(operator, managed.jid, "autostart on") == f"whether {managed.name} starts with its host is set"
    assert "starts with its host: yes" in talk(operator, managed.jid, "info")
    assert "memory: " in talk(operator, hypervisor, "nodeinfo")
    assert "qemu+tls://" in talk(operator, hypervisor, "migration info")
    assert "has the address" in talk(operator, hypervisor, "ip")


def test_a_message_to_the_bare_address_is_answered_in_its_thread_and_kind(managed, automation):
    say(automation, managed.bare, "state", "<thread>t-1</thread>", kind="normal")
    answer = hear(automation, managed.jid)
    assert (answer.findtext(CLIENT + "thread"), answer.get("type", "normal")) == ("t-1", "normal")


def test_a_hypervisor_lists_its_machines_and_passes_words_on(managed, automation, hypervisor):
    assert f"{managed.name} ({managed.bare}): stopped" in talk(automation, hypervisor, "list").splitlines()
    assert talk(automation, hypervisor, f"start {managed.name}") == f"{managed.name} is started"
    assert managed.virsh("domstate") == "running"


def test_a_stranger_is_denied_once_and_moves_nothing(managed, stranger, automation, hypervisor):
    assert talk(stranger, managed.jid, "start") == "You may do nothing here."
    for text in ("start", f"start {managed.name}"):
        say(stranger, managed.jid, text)
        say(stranger, hypervisor, text)
    with pytest.raises(Refused, match="forbidden"):
        run(stranger, managed.jid, "start")
    # Answers keep their order, so that nothing else was said.
    stranger.stream.ask("get", "<ping xmlns='urn:xmpp:ping'/>", hypervisor)
    assert menu(stranger, managed.jid) == []
    assert managed.virsh("domstate") == "shut off"


def test_what_is_late_or_from_a_machine_is_not_heard(managed, machine, automation, log_in):
    for more in (QUIET, "<received xmlns='urn:xmpp:carbons:2'/>", "<received xmlns='urn:xmpp:receipts' id='1'/>"):
        say(automation, managed.jid, "start", more)
    for kind in ("error", "headline"):
        say(automation, managed.jid, "start", kind=kind)
    say(log_in(*machine), managed.jid, "start")
    assert talk(automation, managed.jid, "state") == f"{managed.name} is stopped"
    assert managed.virsh("domstate") == "shut off"


def test_who_is_too_quick_is_told_once(managed, automation):
    for dummy in range(40):
        say(automation, managed.jid, "state")
    automation.stream.write(f"<iq type='get' id='end' to='{managed.jid}'><ping xmlns='urn:xmpp:ping'/></iq>")
    said = []
    while "too quick" not in " ".join(said):
        said.append(hear(automation, managed.jid).findtext(CLIENT + "body"))
    answered = [text for text in said if text.endswith("is stopped")]
    assert len(answered) < 20


def menu(person, jid):
    """The commands that are offered."""
    query = f"<query xmlns='{DISCO}#items' node='{COMMANDS}'/>"
    return [item.get("node") for item in person.stream.ask("get", query, jid)[0]]


def run(person, jid, node, content="", **attributes):
    """One stage of a command."""
    more = "".join(f" {name}='{value}'" for name, value in attributes.items())
    command = f"<command xmlns='{COMMANDS}' node='{node}'{more}>{content}</command>"
    return person.stream.ask("set", command, jid)[0]


def test_a_machine_has_a_menu(managed, automation):
    assert {"state", "start", "destroy", "migrate"} <= set(menu(automation, managed.jid))
    answer = run(automation, managed.jid, "start", action="execute")
    assert answer.get("status") == "completed"
    assert answer.findtext(f"{{{COMMANDS}}}note") == f"{managed.name} is started"
    assert managed.virsh("domstate") == "running"


def test_a_form_moves_a_machine(platform, managed, automation):
    asked = run(automation, managed.jid, "migrate")
    assert asked.get("status") == "executing"
    target = platform.hypervisors[1]
    assert target in [value.text for value in asked.iter("{jabber:x:data}value")]
    form = f"<x xmlns='jabber:x:data' type='submit'><field var='hypervisorjid'><value>{target}</value></field></x>"
    answer = run(automation, managed.jid, "migrate", form, sessionid=asked.get("sessionid"))
    assert answer.findtext(f"{{{COMMANDS}}}note") == f"{managed.name} has moved"
    try:
        assert talk(automation, f"{managed.bare}/{target}", "state") == f"{managed.name} is stopped"
    finally:
        back = f"{managed.host}@{platform.domain}/{managed.host}"
        automation.act(f"{managed.bare}/{target}", CONTROL, "migrate", hypervisorjid=back)


def test_what_disco_names_is_there(managed, automation, hypervisor):
    for jid in (managed.jid, hypervisor):
        info = automation.stream.ask("get", f"<query xmlns='{DISCO}#info'/>", jid)[0]
        features = {feature.get("var") for feature in info}
        assert {COMMANDS, "jabber:iq:version", "urn:xmpp:ping", f"{DISCO}#items"} <= features
        version = automation.stream.ask("get", "<query xmlns='jabber:iq:version'/>", jid)[0]
        assert version.findtext("{jabber:iq:version}name") == "archipel-agent"
        start = automation.stream.ask("get", f"<query xmlns='{DISCO}#info' node='{menu(automation, jid)[0]}'/>", jid)
        assert start[0][0].get("type") == "command-node"


def test_a_hostile_request_ends_no_session(managed, automation, hypervisor):
    deep = "<a>" * 500 + "</a>" * 500  # the server itself ends the session of who goes much deeper
    query = "<query xmlns='archipel:vm:definition'><archipel action='define'>{}</archipel></query>"
    automation.stream.ask("get", "<ping xmlns='urn:xmpp:ping'/>", managed.jid)
    begun = managed.run("systemctl show -P ActiveEnterTimestampMonotonic archipel-agent")
    logins = online(managed)
    with pytest.raises(Refused, match="bad-request"):
        automation.stream.ask("set", query.format(deep), managed.jid)
    for text in (r'{"vms": [{"uuid": "\ud800\u0001\uffff"}]}', "[" * 100000, "9" * 100000, r'{"\ud800": 1}'):
        with pytest.raises(Refused):
            declare = f"<query xmlns='archipel:declaration'><archipel action='plan'>{text}</archipel></query>"
            automation.stream.ask("set", declare, hypervisor)
    assert managed.run("systemctl show -P ActiveEnterTimestampMonotonic archipel-agent") == begun
    assert online(managed) == logins


def online(machine):
    """The logins that the agent's log tells of."""
    return machine.run("journalctl -u archipel-agent -o cat | grep -c 'is online'")


def test_a_flood_is_refused_and_delays_nobody(managed, automation, log_in):
    flood, tag = 10000, uuidlib.uuid4().hex
    query = f"<query xmlns='{CONTROL}'><archipel action='info'/></query>"
    for number in range(flood):
        automation.stream.write(f"<iq type='get' id='{tag}-{number}' to='{managed.jid}'>{query}</iq>")
    assert state(log_in("admin"), managed.jid) == 5
    kinds = {"result": 0, "resource-constraint": 0}
    while sum(kinds.values()) < flood:
        stanza = automation.stream.read()
        if stanza.tag == CLIENT + "iq" and stanza.get("id", "").startswith(tag):
            error = stanza.find(CLIENT + "error")
            assert error is None or error.get("type") == "wait"
            kinds["result" if error is None else error[0].tag.partition("}")[2]] += 1
    assert kinds["result"] and kinds["resource-constraint"]
