# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Menus, forms and the other services: XML in, XML out."""

from __future__ import annotations

import asyncio
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import yaml
from stand_ins import ADMIN, OPS, STRANGER, World

from archipel_agent import adhoc, commands, dispatch, services
from archipel_agent.permissions import Permissions
from archipel_agent.version import VERSION

NODE = "http://jabber.org/protocol/commands"
SUBMIT = "<x xmlns='jabber:x:data' type='submit'><field var='hypervisorjid'><value>{}</value></field></x>"


@pytest.fixture
def world(monkeypatch):
    return World(monkeypatch)


def ask(entity, xml, sender=ADMIN, kind="get"):
    return asyncio.run(services.answer(entity, kind, sender, ET.fromstring(xml)))


def step(entity, node, sender=ADMIN, content="", **attributes):
    more = "".join(f" {name}='{value}'" for name, value in attributes.items())
    return ask(entity, f"<command xmlns='{NODE}' node='{node}'{more}>{content}</command>", sender, "set")


def disco(entity, what, node="", sender=ADMIN):
    about = f" node='{node}'" if node else ""
    return ask(entity, f"<query xmlns='http://jabber.org/protocol/disco#{what}'{about}/>", sender)


def note(answer):
    found = answer.find(f"{{{NODE}}}note")
    return found.get("type"), found.text


def test_the_menu_holds_what_the_sender_may_use(world):
    listed = disco(world.web, "items", NODE, OPS)
    assert [item.get("node") for item in listed] == ["state", "info", "start"]
    assert {item.get("jid") for item in listed} == {world.web.jid}
    assert len(disco(world.web, "items", NODE)) == len(commands.known("vm"))
    assert len(disco(world.web, "items", NODE, STRANGER)) == 0


def test_a_command_is_described_to_who_may_use_it(world):
    described = disco(world.web, "info", "start", OPS)
    assert described.get("node") == "start"
    assert described[0].attrib == {"category": "automation", "type": "command-node", "name": "start: start it"}
    assert {NODE, "jabber:x:data"} == {feature.get("var") for feature in described[1:]}
    assert disco(world.web, "info", NODE)[0].get("type") == "command-list"
    with pytest.raises(adhoc.Refused) as refused:
        disco(world.web, "info", "destroy", OPS)
    assert refused.value.condition == "forbidden"


def test_a_command_without_questions_is_done_at_once(world):
    answer = step(world.web, "start", OPS, action="execute")
    assert (answer.get("status"), answer.get("node"), note(answer)) == (
        "completed",
        "start",
        ("info", "web is started"),
    )
    assert answer.get("sessionid")
    assert world.done == [("web", "create", {"action": "create"})]


def test_a_command_with_a_question_asks_it(world):
    asked = step(world.web, "migrate")
    assert asked.get("status") == "executing" and world.done == []
    actions = asked.find(f"{{{NODE}}}actions")
    assert actions.get("execute") == "complete" and [child.tag for child in actions] == [f"{{{NODE}}}complete"]
    field = asked.find("{jabber:x:data}x/{jabber:x:data}field")
    assert (field.get("var"), field.get("type")) == ("hypervisorjid", "list-single")
    assert [option.findtext("{jabber:x:data}value") for option in field.iter("{jabber:x:data}option")] == ["hv2", "hv3"]
    answer = step(world.web, "migrate", content=SUBMIT.format("hv2"), sessionid=asked.get("sessionid"))
    assert (answer.get("status"), answer.get("sessionid")) == ("completed", asked.get("sessionid"))
    assert world.done == [("web", "migrate", {"action": "migrate", "hypervisorjid": "hv2@example.org/hv2"})]


def test_what_may_be_left_out_is_not_required_and_machines_are_offered(world):
    asked = step(world.hypervisor, "clone")
    fields = asked.findall("{jabber:x:data}x/{jabber:x:data}field")
    required = [field.find("{jabber:x:data}required") is not None for field in fields]
    assert [(field.get("var"), one) for field, one in zip(fields, required)] == [("jid", True), ("name", False)]
    assert [option.get("label") for option in fields[0].iter("{jabber:x:data}option")] == ["db", "web"]
    form = "<x xmlns='jabber:x:data' type='submit'><field var='jid'><value>web</value></field><field var='name'/></x>"
    assert step(world.hypervisor, "clone", content=form).get("status") == "completed"
    assert world.done == [("hv1", "clone", {"action": "clone", "jid": world.web.bare})]


def test_machines_that_the_sender_may_not_see_are_not_offered(world):
    for names, offered in ((["free"], []), (["free", "rostervm"], ["db", "web"]), (["free", "info"], ["db", "web"])):
        permissions = Permissions(grants={"alice@example.org": frozenset(names)})
        assert commands._vms(commands.Caller(world.hypervisor, permissions, "alice@example.org/x")) == offered


def test_a_wrong_answer_is_asked_for_again(world):
    asked = step(world.web, "migrate", content=SUBMIT.format("hv9"), sessionid="s")
    assert asked.get("status") == "executing" and asked.find("{jabber:x:data}x") is not None
    assert note(asked)[0] == "error" and "hv2, hv3" in note(asked)[1]
    assert world.done == []


def test_a_command_is_given_up(world):
    answer = step(world.web, "migrate", sessionid="s", action="cancel")
    assert (answer.get("status"), answer.get("sessionid")) == ("canceled", "s")
    assert step(world.web, "start", action="cancel").get("status") == "canceled"
    assert world.done == []


def test_a_failure_is_a_note(world):
    assert note(step(world.web, "suspend")) == ("error", "domain is not running")


@pytest.mark.parametrize(
    "node, sender, action, condition, detail",
    [
        ("destroy", OPS, "execute", "forbidden", ""),
        ("start", STRANGER, "execute", "forbidden", ""),
        ("fly", ADMIN, "execute", "item-not-found", ""),
        ("list", ADMIN, "execute", "item-not-found", ""),  # a hypervisor's
        ("start", ADMIN, "prev", "bad-request", "bad-action"),
    ],
)
def test_what_cannot_be_is_refused(world, node, sender, action, condition, detail):
    with pytest.raises(adhoc.Refused) as refused:
        step(world.web, node, sender, action=action)
    assert (refused.value.condition, refused.value.detail) == (condition, detail)
    assert world.done == []


def test_disco_tells_the_truth(world):
    for entity in (world.web, world.hypervisor):
        told = disco(entity, "info")
        features = {child.get("var") for child in told[1:]}
        assert features == services._FEATURES | {one.namespace for one in dispatch.handlers(entity.kind)}
        assert told[0].get("name") == entity.name
        assert len(disco(entity, "items")) == 0
        for feature in ("jabber:iq:version", "urn:xmpp:ping"):
            name = "ping" if "ping" in feature else "query"
            ask(entity, f"<{name} xmlns='{feature}'/>")


def test_the_version_is_the_collections(world):
    told = ask(world.web, "<query xmlns='jabber:iq:version'/>")
    texts = {child.tag.partition("}")[2]: child.text for child in told}
    assert texts == {"name": "archipel-agent", "version": VERSION}
    galaxy = yaml.safe_load((Path(__file__).resolve().parents[3] / "galaxy.yml").read_text())
    assert galaxy["version"] == VERSION


@pytest.mark.parametrize(
    "kind, xml",
    [
        ("set", "<ping xmlns='urn:xmpp:ping'/>"),
        ("get", f"<command xmlns='{NODE}' node='start'/>"),
        ("get", "<query xmlns='jabber:iq:last'/>"),
    ],
)
def test_what_is_no_service(world, kind, xml):
    with pytest.raises(dispatch.UnknownAction):
        ask(world.web, xml, kind=kind)
    assert world.done == []
