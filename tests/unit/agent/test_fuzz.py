# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Random stanzas on the whole road from an <iq/> or a <message/> to a handler: no failure of ours, and nothing done
without the permission."""

from __future__ import annotations

import asyncio
import json
import logging
from xml.etree import ElementTree as ET

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from stand_ins import ADMIN, DB_UUID, OPS, PAYLOADS, STRANGER, WEB_UUID, World

from archipel_agent import chat, commands, entity as entities, gate, permissions, wanted
from archipel_protocol import declaration, errors, namespaces as ns, payloads, stanzas

TEXT = st.text(max_size=40) | st.sampled_from(["", "\x00", "\ud800", "\n", "&", "'", "]]>", "/../..", "web", "hv2"])
NAMESPACES = st.sampled_from([value for name, value in vars(ns).items() if name.isupper()] + ["", "jabber:client"])
NAMES = st.sampled_from(
    ["query", "archipel", "command", "x", "field", "value", "ping", "item", "domain", "permission", "body", "thread"]
)
ACTIONS = st.sampled_from(sorted({one.action for one in commands.COMMANDS} | {"define", "fly", ""}))
NODES = st.sampled_from([one.name for one in commands.COMMANDS] + [ns.COMMANDS, "fly", ""])
SENDERS = st.sampled_from([ADMIN, OPS, STRANGER, "example.org", "", "@", "ops@example.org.evil.net/x"])
ATTRIBUTES = st.fixed_dictionaries(
    {},
    optional={
        "action": ACTIONS | st.sampled_from(["execute", "complete", "cancel", "prev"]),
        "node": NODES,
        "sessionid": TEXT,
        "type": st.sampled_from(["submit", "form", "cancel"]),
        "var": st.just("hypervisorjid"),
        "jid": TEXT,
        "value": TEXT,
        "hypervisorjid": TEXT,
        "xmlns": TEXT,
    },
)


@st.composite
def elements(draw, depth=3):
    name, namespace = draw(NAMES), draw(NAMESPACES)
    element = ET.Element(f"{{{namespace}}}{name}" if namespace else name, draw(ATTRIBUTES))
    element.text = draw(st.none() | TEXT)
    if depth:
        element.extend(draw(st.lists(elements(depth - 1), max_size=3)))
    return element


@st.composite
def plausible(draw):
    """A request that is well formed, or nearly so."""
    namespace = draw(NAMESPACES)
    if namespace == ns.COMMANDS:
        root = ET.Element(f"{{{namespace}}}command", draw(ATTRIBUTES) | {"node": draw(NODES)})
    else:
        root = ET.Element(f"{{{namespace}}}query")
        ET.SubElement(root, f"{{{namespace}}}archipel", draw(ATTRIBUTES) | {"action": draw(ACTIONS)})
    root.extend(draw(st.lists(elements(2), max_size=2)))
    return root


class Session:
    """Takes the answers."""

    def __init__(self):
        self.answers = []

    def reply(self, receiver, iq_id, payload):
        self._send([] if payload is None else [payload])

    def refuse(self, receiver, iq_id, children):
        self._send(children)

    def message(self, receiver, text, kind, thread):
        body = ET.Element("body")
        body.text = text
        self._send([body])

    def _send(self, children):
        """As xmpp.Session does: what cannot be written would end the session."""
        stanza = ET.Element("stanza")
        stanza.extend(children)
        self.answers.append(ET.fromstring(stanzas.written(stanza)))


def entity_of(world, one):
    """A stand-in that answers like the agent's own entities."""
    made = entities.Entity.__new__(entities.Entity)
    made.agent, made.kind, made.jid, made.name = world.agent, one.kind, one.jid, one.name
    made.uuid, made.bare, made.state, made.identity = one.uuid, one.bare, one.state, one.identity
    made.session, made._requests = Session(), set()
    return made


async def finished(entity):
    while entity._requests:
        await asyncio.gather(*entity._requests)


def allowed(world, sender):
    """What may have been done for the sender: (entity, action)."""
    holder = {ADMIN: {one.action for one in commands.COMMANDS}, OPS: {"info", "create"}}.get(sender, set())
    return all(action in holder for dummy, action, dummy2 in world.done)


@pytest.fixture
def world(monkeypatch):
    made = World(monkeypatch)
    made.agent.gate, made.agent.chat = gate.Gate(), chat.Chat()
    return made


QUICK = settings(
    max_examples=300, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def test_an_answer_that_no_stanza_carries_is_an_error(world, monkeypatch):
    monkeypatch.setitem(PAYLOADS, "networkinfo", [ET.Element("network", {"name": "x" * payloads.MAX_STANZA})])

    async def scene():
        entity = entity_of(world, world.web)
        entity.on_iq(entity.session, "get", ADMIN, "id", payloads.request(ns.VM_CONTROL, "networkinfo"))
        await finished(entity)
        return entity.session.answers

    (answer,) = asyncio.run(scene())
    assert "larger than the 4092 KiB of a stanza; ask for less" in "".join(answer.itertext())
    assert payloads.wire_size(answer) < 2000


@QUICK
@given(
    payload=st.none() | elements() | plausible(), kind=st.sampled_from(["get", "set"]), sender=SENDERS, vm=st.booleans()
)
def test_every_request_is_answered_once_and_only_what_is_permitted_is_done(world, caplog, payload, kind, sender, vm):
    world.done.clear()
    caplog.clear()

    async def scene():
        entity = entity_of(world, world.web if vm else world.hypervisor)
        entity.on_iq(entity.session, kind, sender, "id", payload)
        await finished(entity)
        return entity.session.answers

    answers = asyncio.run(scene())
    assert len(answers) == 1
    assert allowed(world, sender)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert world.agent.gate._total == 0


WORDS = st.sampled_from(
    [word for one in commands.COMMANDS for word in one.words] + ["web", "db", WEB_UUID, DB_UUID, "hv2"]
)


@QUICK
@given(
    text=TEXT | st.lists(WORDS | TEXT, max_size=4).map(" ".join),
    sender=SENDERS,
    vm=st.booleans(),
    kind=st.sampled_from(["chat", "normal", "error", "groupchat"]),
    more=st.lists(elements(1), max_size=2),
)
def test_every_message_is_answered_at_most_once_and_only_what_is_permitted_is_done(
    world, caplog, text, sender, vm, kind, more
):
    world.done.clear()
    caplog.clear()
    world.agent.chat = chat.Chat()
    message = ET.Element("{jabber:client}message", {"from": sender, "type": kind})
    ET.SubElement(message, "{jabber:client}body").text = text
    message.extend(more)

    async def scene():
        entity = entity_of(world, world.web if vm else world.hypervisor)
        entity.on_message(entity.session, message)
        await finished(entity)
        return entity.session.answers

    answers = asyncio.run(scene())
    assert len(answers) <= 1
    assert allowed(world, sender)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


KEYS = st.sampled_from([*declaration.Wanted.__annotations__, "vms", "facts", "names", "uuids", "details", "x"]) | TEXT
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.just(WEB_UUID),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=20,
)


@QUICK
@given(payload=JSON | st.fixed_dictionaries({"vms": st.lists(st.dictionaries(KEYS, JSON, max_size=8), max_size=3)}))
def test_a_declaration_is_read_or_refused(payload):
    for read in (wanted.machines, wanted.selection):
        try:
            read(declaration.decode(json.dumps(payload)))
        except errors.MalformedRequest as fault:
            assert fault.message


@QUICK
@given(text=st.text(max_size=200) | st.binary(max_size=200).map(lambda data: data.decode("latin-1")))
def test_text_that_is_no_declaration_is_refused(text):
    try:
        declaration.decode(text)
    except errors.MalformedRequest as fault:
        assert fault.message


def test_the_stand_ins_hold_what_the_fuzz_relies_on(world):
    held = permissions.Permissions.permits
    assert held(world.agent.permissions, OPS, "create", world.web.bare)
    assert not held(world.agent.permissions, OPS, "destroy", world.web.bare)
