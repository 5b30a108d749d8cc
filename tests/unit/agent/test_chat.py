# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a person types, and what comes of it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from stand_ins import ADMIN, DB_UUID, OPS, STRANGER, WEB_UUID, World

from archipel_agent import chat, commands
from archipel_agent.permissions import Permissions


@pytest.fixture
def world(monkeypatch):
    return World(monkeypatch)


def say(entity, text, sender=ADMIN, talk=None, now=0.0):
    message = chat.Message(sender, "chat", text, "")
    return asyncio.run((talk or chat.Chat()).answer(entity, message, now))


@pytest.mark.parametrize(
    "text, action",
    [
        ("start", "create"),
        ("Start", "create"),
        ("boot!", "create"),
        ("stop", "shutdown"),
        ("shut down", "shutdown"),
        ("destroy", "destroy"),
        ("power off", "destroy"),
        ("pause", "suspend"),
        ("unpause", "resume"),
        ("info", "info"),
        ("How are you?", "info"),
        ("state", "info"),
        ("xml", "xmldesc"),
    ],
)
def test_words_are_actions(world, text, action):
    say(world.web, text)
    assert [(name, done) for name, done, dummy in world.done] == [("web", action)]


@pytest.mark.parametrize(
    "text", ["fly", "hello", "starts", "restart", "do not start", "start the presses", "s", "a" * 5000, "start " * 200]
)
def test_what_is_no_command_does_nothing(world, text):
    assert say(world.web, text)
    assert world.done == []


def test_unknown_words_get_help_with_what_the_sender_may_use(world):
    assert say(world.web, "fly", OPS).splitlines() == [
        "I understand:",
        "state: whether it runs",
        "info: state, memory, processors",
        "start: start it",
    ]
    assert "destroy" in say(world.web, "help")


def test_answers_are_sentences(world):
    assert say(world.web, "state") == "web is running"
    assert say(world.web, "start") == "web is started"
    assert say(world.web, "xml") == "web is not defined"
    assert say(world.web, "info").splitlines() == [
        "web: running",
        "memory: 512 MiB of 1 GiB",
        "processors: 2, 3.1 % busy",
        "hypervisor: hv1",
        "starts with its host: yes",
    ]


def test_a_failure_is_told_in_its_own_words(world):
    assert say(world.web, "pause") == "domain is not running"


def test_without_the_permission_nothing_happens(world):
    assert say(world.web, "destroy", OPS) == f"ops@example.org lacks the permission 'destroy' on {WEB_UUID}@example.org"
    assert world.done == []


def test_a_stranger_is_denied_once(world):
    talk = chat.Chat()
    assert [say(world.web, "start", STRANGER, talk, now) for now in (0, 1, 2)] == [chat.DENIAL, "", ""]
    assert say(world.hypervisor, "start web", STRANGER, talk, 3) == ""
    assert say(world.web, "start", STRANGER, talk, chat.DENIED + 4) == chat.DENIAL
    assert world.done == []


def test_parameters(world):
    assert say(world.web, "migrate hv2") == "web has moved"
    assert world.done.pop() == ("web", "migrate", {"action": "migrate", "hypervisorjid": "hv2@example.org/hv2"})
    assert say(world.web, "migrate") == "say: migrate <hypervisor>"
    assert say(world.web, "start now") == "say: start"
    assert say(world.web, "migrate hv9") == "hypervisor: 'hv9' is none of the other hypervisors: hv2, hv3"
    assert world.done == []


@pytest.mark.parametrize(
    "text, action, attributes, answer",
    [
        ("reboot", "reboot", {}, "web is asked to boot again"),
        ("memory 2 GiB", "memory", {"value": "2097152"}, "the memory of web is set"),
        ("memory 512m", "memory", {"value": "524288"}, "the memory of web is set"),
        ("vcpus 4", "setvcpus", {"value": "4"}, "the processors of web are set"),
        ("autostart On", "autostart", {"value": "1"}, "whether web starts with its host is set"),
        ("net", "networkinfo", {}, "net0: 10 bytes received, 20 sent; 1 and 0 errors"),
        ("tags web, two words", "settags", {"tags": "web;;two words"}, "the tags of web are set"),
        ("tags none", "settags", {"tags": ""}, "the tags of web are set"),
        ("undefine", "undefine", {}, "web is not defined any more"),
        ("capabilities", "capabilities", {}, "x86_64 (hvm): qemu, kvm\ni686 (hvm): qemu"),
    ],
)
def test_what_else_a_machine_does(world, text, action, attributes, answer):
    assert say(world.web, text) == answer
    assert world.done == [("web", action, {"action": action, **attributes})]


@pytest.mark.parametrize(
    "text, action, attributes, answer",
    [
        ("ip", "ip", {}, "hv1 has the address 192.0.2.1"),
        ("capabilities", "capabilities", {}, "x86_64 (hvm): qemu, kvm\ni686 (hvm): qemu"),
        ("tags rack-1", "settags", {"tags": "rack-1"}, "the tags of hv1 are set"),
        (
            *("libvirt uri", "migrationinfo", {}),
            "machines migrate to qemu+tls://192.0.2.1/system; their files are under /vm",
        ),
        ("alloc", "alloc", {}, f"db is made; its address is {DB_UUID}@example.org"),
        ("alloc a b", "alloc", {"name": "a b"}, f"db is made; its address is {DB_UUID}@example.org"),
        ("clone web", "clone", {"jid": f"{WEB_UUID}@example.org"}, f"db is made; its address is {DB_UUID}@example.org"),
        (
            *(f"clone {WEB_UUID} copy of web", "clone"),
            {"jid": f"{WEB_UUID}@example.org", "name": "copy of web"},
            f"db is made; its address is {DB_UUID}@example.org",
        ),
        ("free db", "free", {"jid": f"{DB_UUID}@example.org"}, f"{DB_UUID}@example.org is removed; its disks stay"),
    ],
)
def test_what_else_a_hypervisor_does(world, text, action, attributes, answer):
    assert say(world.hypervisor, text) == answer
    assert world.done == [("hv1", action, {"action": action, **attributes})]


def test_a_hypervisor_tells_of_its_host(world):
    assert say(world.hypervisor, "host").splitlines() == [
        "hv1: 8 processors (x86_64, 2400 MHz)",
        "memory: 4 GiB",
        "NUMA nodes: 1, sockets: 2, cores: 4, threads: 1",
    ]


@pytest.mark.parametrize(
    "text, answer",
    [
        ("memory 512", "size: '512' is no size like 512 MiB or 2 GiB"),
        ("vcpus four", "number: 'four' is not a whole number"),
        ("autostart perhaps", "on or off: 'perhaps' is neither on nor off"),
        ("memory", "say: memory <size>"),
        ("tags a;b", "tags or none: the tag 'a;b' must not have a ';', which separates tags"),
        ("free x", "machine: 'x' is no virtual machine of hv1; a name, a UUID or an address is meant"),
        ("clone", "say: clone <machine> [name]"),
    ],
)
def test_a_wrong_value_is_named(world, text, answer):
    entity = world.hypervisor if text.split()[0] in ("free", "clone") else world.web
    assert say(entity, text) == answer
    assert world.done == []


def test_a_hypervisor_lists_its_machines(world):
    assert say(world.hypervisor, "list").splitlines()[1] == f"web ({WEB_UUID}@example.org): stopped"


def test_a_machine_is_named_to_its_hypervisor(world):
    assert say(world.hypervisor, "start web", OPS) == "web is started"
    assert say(world.hypervisor, f"start {WEB_UUID}", OPS) == "web is started"
    assert [(name, action) for name, action, dummy in world.done] == [("web", "create")] * 2
    assert "With the name of a virtual machine: state, info, start" in say(world.hypervisor, "help", OPS)


def test_a_machine_that_the_sender_may_do_nothing_with_is_as_unknown_as_one_that_is_not_there(world):
    world.agent.permissions = Permissions(grants={"alice@example.org": frozenset(["rostervm"])})
    answers = {say(world.hypervisor, text, "alice@example.org/x") for text in ("start web", "start nothing", "fly")}
    assert len(answers) == 1 and "start" not in answers.pop()
    listed = say(world.hypervisor, "list", "alice@example.org/x")
    assert "web" in listed and "stopped" not in listed


def message(content="<body>start</body>", attributes="type='chat' from='ops@example.org/phone'"):
    return ET.fromstring(f"<message xmlns='jabber:client' {attributes}>{content}</message>")


def test_words_are_heard():
    heard = chat.hear(message("<thread>t1</thread><body>  how are\n you </body>"), "example.org", {"hv1"})
    assert heard == chat.Message("ops@example.org/phone", "chat", "how are you", "t1")
    assert chat.hear(message(attributes="from='ops@example.org/phone'"), "example.org", {"hv1"}).kind == "normal"


@pytest.mark.parametrize(
    "content, attributes",
    [
        ("<body>start</body>", "type='error' from='ops@example.org/phone'"),
        ("<body>start</body>", "type='groupchat' from='room@conference.example.org/ops'"),
        ("<body>start</body>", "type='headline' from='ops@example.org/phone'"),
        ("<body>start</body>", "type='chat' from='example.org'"),
        ("<body>start</body>", "type='chat'"),
        ("<body>start</body>", f"type='chat' from='{WEB_UUID}@example.org/hv1'"),
        ("<body>start</body>", "type='chat' from='hv1@example.org/hv1'"),
        ("<body> </body>", "type='chat' from='ops@example.org/phone'"),
        ("", "type='chat' from='ops@example.org/phone'"),
        *(
            (f"<body>start</body><{name} xmlns='{namespace}'/>", "type='chat' from='ops@example.org/phone'")
            for name, namespace in (
                ("delay", "urn:xmpp:delay"),
                ("x", "jabber:x:delay"),
                ("received", "urn:xmpp:carbons:2"),
                ("sent", "urn:xmpp:carbons:2"),
                ("result", "urn:xmpp:mam:2"),
                ("x", "http://jabber.org/protocol/muc#user"),
                ("received", "urn:xmpp:receipts"),
                ("displayed", "urn:xmpp:chat-markers:0"),
            )
        ),
    ],
)
def test_what_nobody_says_to_us_now_is_not_heard(content, attributes):
    assert chat.hear(message(content, attributes), "example.org", {"hv1"}) is None


def test_a_request_for_a_receipt_is_no_receipt():
    assert chat.hear(message("<body>start</body><request xmlns='urn:xmpp:receipts'/>"), "example.org", set())


def test_who_is_too_quick_is_told_once_and_may_go_on_later():
    talk, spoken = chat.Chat(), chat.hear(message(), "example.org", set())
    assert [talk.too_quick(spoken, 0) for dummy in range(chat.BURST + 2)] == [False] * chat.BURST + [True] * 2
    assert [talk.complains(spoken) for dummy in range(3)] == [True, False, False]
    assert talk.too_quick(spoken, chat.PAUSE / 2)
    assert not talk.too_quick(spoken, chat.PAUSE * 1.5)


def test_the_memory_for_senders_is_bounded():
    pace = chat.Pace(1, 1.0)
    for number in range(chat.REMEMBERED * 2):
        pace.keeps(f"user{number}@elsewhere.net", 0)
    assert len(pace._senders) == chat.REMEMBERED


def test_words_are_unambiguous_on_each_kind_of_entity():
    for kind in ("vm", "hypervisor"):
        words = [word for command in commands.known(kind) for word in command.words]
        assert len(words) == len(set(words)) and all(word == " ".join(word.lower().split()) for word in words)


@pytest.mark.parametrize("command", commands.COMMANDS, ids=lambda command: f"{command.on}-{command.name}")
def test_the_guide_names_every_word(command):
    guide = Path(__file__).resolve().parents[3] / "docs/guides/chat.md"
    also = ", ".join(f"`{word}`" for word in command.words[1:])
    assert f"| `{command.usage}` | {also} |" in guide.read_text()
