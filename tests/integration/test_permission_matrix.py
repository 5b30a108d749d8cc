# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every action, chat word and menu command × {nobody, wrong grant, right grant, admin}, through the real server.

The list is the one of the agent that is installed, so what is added to the agent is tested here. The wrong grant is the
strongest one: every other permission on the entity, and everything on the other kind of entity. A request has no
content, so who is permitted mostly gets another error; what an action does all the same happens to a machine of the
test's own.
"""

from __future__ import annotations

import contextlib
import json
import typing as t
import uuid as uuidlib
from xml.sax.saxutils import escape, quoteattr

import pytest
from people import CONTROL, HYPERVISOR, Failed, Person, manage
from xmpp_stream import CLIENT, Refused

PERMISSIONS = "archipel:permissions"
COMMANDS = "http://jabber.org/protocol/commands"
# Whoever has any permission has this one, so there is no wrong grant for it.
OWN = "permission_getown"
# An account has so many chat messages before it has to slow down.
CHAT_BURST = 8

READ = """
import importlib, json
from archipel_agent import agent, commands, dispatch
from archipel_protocol import permissions
for name in agent.CAPABILITIES:
    importlib.import_module('archipel_agent.' + name)
print(json.dumps({
    'actions': [[one.on, one.namespace, one.action, one.permission] for one in dispatch.handlers()],
    'commands': [[one.on, one.namespace, one.action, one.words, bool(one.fields)] for one in commands.COMMANDS],
    'names': {kind: sorted(names) for kind, names in permissions.KINDS.items()},
}))
"""


class Agent:
    """What the installed agent can do."""

    def __init__(self, listing: dict[str, t.Any]) -> None:
        self.actions: list[list[str]] = listing["actions"]
        self.commands: list[list[t.Any]] = listing["commands"]
        self.names: dict[str, list[str]] = listing["names"]

    def permission(self, kind: str, namespace: str, action: str) -> str:
        return next(one[3] for one in self.actions if one[:3] == [kind, namespace, action])


@pytest.fixture
def agent(platform) -> Agent:
    return Agent(json.loads(platform.run(platform.hypervisors[0], f'PYTHONPATH=/usr/lib/archipel python3 -c "{READ}"')))


class Place:
    """The entity that is asked, and an administrator who grants on it."""

    def __init__(self, agent: Agent, kind: str, hypervisor: str, machine, admin: Person) -> None:
        self._agent, self.kind, self._hypervisor, self._machine, self._admin = agent, kind, hypervisor, machine, admin
        self.jid = hypervisor if kind == "hypervisor" else machine.jid
        self._other = machine.jid if kind == "hypervisor" else hypervisor

    def revive(self) -> None:
        """Has the machine managed and defined, whatever an action made of it."""
        with contextlib.suppress(Failed):
            try:
                self._admin.act(self._machine.jid, CONTROL, "info")
            except Refused:
                self._machine.run(f"virsh -q dumpxml {self._machine.uuid} >/dev/null", check=False)
                self._machine.define()
                manage(self._admin, self._hypervisor, self._machine)

    def grant(self, right: str, permission: str, wrong: str) -> None:
        """``right`` has the one permission, ``wrong`` all others here, and everything on the other entity."""
        others = [name for name in self._agent.names[self.kind] if name not in ("all", permission)]
        self._set(self.jid, right, [permission])
        self._set(self.jid, wrong, others)
        self._set(self.jid, wrong, [permission], "false")
        self._set(self._other, wrong, ["all"])

    def revoke(self, right: str, permission: str) -> None:
        self._set(self.jid, right, [permission], "false")

    def leave(self, *users: str) -> None:
        for jid in (self.jid, self._other):
            for user in users:
                query = self._admin.act(jid, PERMISSIONS, "get", permission_type="user", permission_target=user)
                names = [element.get("name") for element in query]
                if names:
                    self._set(jid, user, names, "false")

    def _set(self, jid: str, user: str, names: list[str], value: str = "true") -> None:
        permission = "<permission permission_type='user' permission_target={} permission_name={} permission_value={}/>"
        content = "".join(permission.format(quoteattr(user), quoteattr(name), quoteattr(value)) for name in names)
        self._admin.act(jid, PERMISSIONS, "set", content)


@pytest.fixture(params=["hypervisor", "vm"])
def place(request, agent, hypervisor, managed, log_in):
    place = Place(agent, request.param, hypervisor, managed, log_in("admin"))
    yield place
    place.revive()
    domain = managed.platform.domain
    place.leave(*(f"{name}@{domain}" for name in ("matrix-right", "matrix-wrong")))


@pytest.fixture
def strays(platform, automation, hypervisor):
    """What the actions made goes."""

    def listed() -> dict[str, str]:
        return {item.text: item.get("managed") for item in automation.act(hypervisor, HYPERVISOR, "rostervm")}

    before = listed()
    yield
    for jid, managed in listed().items():
        if jid not in before:
            bare = jid.partition("/")[0]
            if managed == "True":
                automation.act(hypervisor, HYPERVISOR, "unmanage", f"<item jid='{bare}'/>")
            platform.run(platform.hypervisors[0], f"virsh -q undefine {bare.partition('@')[0]}", check=False)


def is_denied(person: Person, jid: str, namespace: str, action: str, permission: str) -> bool:
    """Whether the action's own check says no; another error, or an answer, comes after it."""
    try:
        person.act(jid, namespace, action)
    except Failed as fault:
        told = f"lacks the permission '{permission}' on {jid.partition('/')[0]}"
        return (fault.kind, fault.code) == ("archipel-error-permission", -1) and told in fault.text
    except Refused:
        return False
    return False


def test_actions(agent, place, strays, platform, account, log_in):
    nobody, wrong, right = (account(f"matrix-{name}") for name in ("nobody", "wrong", "right"))
    admin, peer = log_in("admin"), log_in(platform.hypervisors[1])
    found, expected = {}, {}
    for kind, namespace, action, permission in agent.actions:
        if kind != place.kind:
            continue
        people = {"nobody": nobody, "wrong": wrong, "right": right, "admin": admin}
        allowed = {"right", "admin"}
        if permission == "peer":
            # Nobody can be granted it.
            people["right"], allowed = peer, {"right"}
        else:
            place.revive()
            place.grant(f"matrix-right@{platform.domain}", permission, f"matrix-wrong@{platform.domain}")
        if permission == OWN:
            del people["wrong"]
        for name, person in people.items():
            if name in allowed:
                place.revive()
                if permission != "peer":
                    place.grant(f"matrix-right@{platform.domain}", permission, f"matrix-wrong@{platform.domain}")
            found[namespace, action, name] = is_denied(person, place.jid, namespace, action, permission)
            expected[namespace, action, name] = name not in allowed
        if permission != "peer":
            place.revive()
            place.revoke(f"matrix-right@{platform.domain}", permission)
    assert len(found) > 20
    assert found == expected


def executed(person: Person, jid: str, node: str) -> str:
    """What becomes of a menu's command: "forbidden" or something else."""
    try:
        person.stream.ask("set", f"<command xmlns='{COMMANDS}' node={quoteattr(node)} action='execute'/>", jid)
    except Refused as refused:
        return str(refused)
    return "answered"


def said(person: Person, jid: str, text: str) -> str:
    """The answer to a word in a chat."""
    person.stream.write(
        f"<message type='chat' id='{uuidlib.uuid4()}' to={quoteattr(jid)}><body>{escape(text)}</body></message>"
    )
    while True:
        stanza = person.stream.read()
        if stanza.tag == CLIENT + "message" and stanza.get("from") == jid:
            return stanza.findtext(CLIENT + "body", "")


def test_menu_commands(agent, place, platform, account, log_in):
    nobody, wrong, right = (account(f"matrix-{name}") for name in ("nobody", "wrong", "right"))
    people = {"nobody": nobody, "wrong": wrong, "right": right, "admin": log_in("admin")}
    found, expected = {}, {}
    for kind, namespace, action, words, dummy in agent.commands:
        if kind != place.kind:
            continue
        permission = agent.permission(kind, namespace, action)
        for name, person in people.items():
            place.revive()
            place.grant(f"matrix-right@{platform.domain}", permission, f"matrix-wrong@{platform.domain}")
            found[words[0], name] = executed(person, place.jid, words[0]) == "forbidden"
            expected[words[0], name] = name in ("nobody", "wrong")
        place.revive()
        place.revoke(f"matrix-right@{platform.domain}", permission)
    assert found == expected and found


def test_chat_words(agent, place, platform, account):
    spoken = [one for one in agent.commands if one[0] == place.kind]
    for start in range(0, len(spoken), CHAT_BURST):
        wrong, right = (account(f"matrix-{name}-{start}") for name in ("wrong", "right"))
        jids = [f"matrix-{name}-{start}@{platform.domain}" for name in ("right", "wrong")]
        for kind, namespace, action, words, has_fields in spoken[start : start + CHAT_BURST]:
            permission = agent.permission(kind, namespace, action)
            text = f"{words[0]} nowhere" if has_fields else words[0]
            denial = f"lacks the permission '{permission}' on"
            place.revive()
            place.grant(jids[0], permission, jids[1])
            assert denial in said(wrong, place.jid, text), (text, permission)
            assert denial not in said(right, place.jid, text), (text, permission)
            place.revive()
            place.revoke(jids[0], permission)
        place.leave(*jids)
