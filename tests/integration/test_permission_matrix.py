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
import functools
import json
import time
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


T = t.TypeVar("T")


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


class Gone(Exception):
    """The machine goes, because of what was asked of it before; the request went with it."""


class Place:
    """The entity that is asked, and an administrator who grants on it."""

    def __init__(self, agent: Agent, kind: str, hypervisor: str, machine, admin: Person) -> None:
        self._agent, self.kind, self._hypervisor, self._machine, self._admin = agent, kind, hypervisor, machine, admin
        self.jid = hypervisor if kind == "hypervisor" else machine.jid
        self._other = machine.jid if kind == "hypervisor" else hypervisor
        self._granted = ("", "")  # which permission, to whom

    def ask(self, permission: str, question: t.Callable[[], T], right: str = "right", wrong: str = "wrong") -> T:
        """The answer to ``question``, asked while the one has the permission, and the other all but it."""
        for dummy in range(3):
            try:
                self.revive()
                if permission != "peer" and self._granted != (permission, right):
                    self._grant(f"matrix-{right}", permission, f"matrix-{wrong}")
                    self._granted = (permission, right)
                return question()
            except Gone:
                self._granted = ("", "")
        raise AssertionError(f"{self._machine.name} is gone each time")

    def revive(self) -> None:
        """Has the machine managed, whatever an action made of it."""
        with contextlib.suppress(Failed):
            try:
                self._admin.act(self._machine.jid, CONTROL, "info")
            except (Refused, TimeoutError):
                self._granted = ("", "")
                self._machine.define()
                manage(self._admin, self._hypervisor, self._machine)

    def leave(self, *names: str) -> None:
        """Takes back what was granted."""
        for jid in (self.jid, self._other):
            for name in names:
                self._take(jid, f"matrix-{name}")

    def _grant(self, right: str, permission: str, wrong: str) -> None:
        others = [name for name in self._agent.names[self.kind] if name not in ("all", permission)]
        self._take(self.jid, right)
        self._set(self.jid, right, [permission])
        self._set(self.jid, wrong, others)
        self._set(self.jid, wrong, [permission], "false")
        self._set(self._other, wrong, ["all"])

    def _take(self, jid: str, name: str) -> None:
        target = f"{name}@{self._admin.domain}"
        query = self._act(jid, "get", permission_type="user", permission_target=target)
        names = [element.get("name") for element in query]
        if names:
            self._set(jid, name, names, "false")

    def _set(self, jid: str, name: str, names: list[str], value: str = "true") -> None:
        target = quoteattr(f"{name}@{self._admin.domain}")
        form = "<permission permission_type='user' permission_target={} permission_name={} permission_value={}/>"
        self._act(jid, "set", "".join(form.format(target, quoteattr(one), quoteattr(value)) for one in names))

    def _act(self, jid: str, action: str, content: str = "", **attributes: str):
        try:
            return self._admin.act(jid, PERMISSIONS, action, content, **attributes)
        except (Refused, TimeoutError):
            raise Gone from None


@pytest.fixture(params=["hypervisor", "vm"])
def place(request, agent, hypervisor, managed, log_in):
    place = Place(agent, request.param, hypervisor, managed, log_in("admin"))
    yield place
    place.revive()
    place.leave("right", "wrong")


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
    """Whether the action's own check says no; another error, or an answer, comes after it. Raises Gone."""
    try:
        person.act(jid, namespace, action)
    except Failed as fault:
        told = f"lacks the permission '{permission}' on {jid.partition('/')[0]}"
        return (fault.kind, fault.code) == ("archipel-error-permission", -1) and told in fault.text
    except Refused as refused:
        if str(refused) == "service-unavailable":
            raise Gone from None
    except TimeoutError:
        raise Gone from None
    return False


def test_actions(agent, place, strays, platform, account, log_in):
    nobody, wrong, right = (account(f"matrix-{name}") for name in ("nobody", "wrong", "right"))
    admin, peer = log_in("admin"), log_in(platform.hypervisors[1])
    found, expected = {}, {}
    for kind, namespace, action, permission in agent.actions:
        if kind != place.kind:
            continue
        people, allowed = {"nobody": nobody, "wrong": wrong, "right": right, "admin": admin}, {"right", "admin"}
        if permission == "peer":
            # Nobody can be granted it, nor is an administrator a peer.
            people["right"], allowed = peer, {"right"}
        if permission == OWN:
            del people["wrong"]
        for name, person in people.items():
            question = functools.partial(is_denied, person, place.jid, namespace, action, permission)
            found[namespace, action, name] = place.ask(permission, question)
            expected[namespace, action, name] = name not in allowed
    assert len(found) > 20
    assert found == expected


def executed(person: Person, jid: str, node: str) -> str:
    """What becomes of a menu's command: "forbidden" or something else."""
    try:
        person.stream.ask("set", f"<command xmlns='{COMMANDS}' node={quoteattr(node)} action='execute'/>", jid)
    except Refused as refused:
        if str(refused) == "service-unavailable":
            raise Gone from None
        return str(refused)
    except TimeoutError:
        raise Gone from None
    return "answered"


def said(person: Person, jid: str, text: str) -> str:
    """The answer to a word in a chat; whoever was too quick, because a word had to be said again, waits."""
    while True:
        answer = _said(person, jid, text)
        if "too quick" not in answer:
            return answer
        time.sleep(2)


def _said(person: Person, jid: str, text: str) -> str:
    person.stream.write(
        f"<message type='chat' id='{uuidlib.uuid4()}' to={quoteattr(jid)}><body>{escape(text)}</body></message>"
    )
    while True:
        try:
            stanza = person.stream.read()
        except TimeoutError:
            raise Gone from None
        if stanza.tag == CLIENT + "message" and stanza.get("from") == jid:
            if stanza.get("type") == "error":
                raise Gone
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
            question = functools.partial(executed, person, place.jid, words[0])
            found[words[0], name] = place.ask(permission, question) == "forbidden"
            expected[words[0], name] = name in ("nobody", "wrong")
    assert found == expected and found


def test_chat_words(agent, place, account):
    spoken = [one for one in agent.commands if one[0] == place.kind]
    for start in range(0, len(spoken), CHAT_BURST):
        names = [f"right-{start}", f"wrong-{start}"]
        people = [account(f"matrix-{name}") for name in names]
        for kind, namespace, action, words, has_fields in spoken[start : start + CHAT_BURST]:
            permission = agent.permission(kind, namespace, action)
            # "alloc nowhere" makes a machine, which "free nowhere" removes.
            text = f"{words[0]} nowhere" if has_fields else words[0]
            answers = [
                place.ask(permission, functools.partial(said, person, place.jid, text), *names) for person in people
            ]
            denied = [f"lacks the permission '{permission}' on" in answer for answer in answers]
            assert denied == [False, True], (text, answers)
        place.leave(*names)
