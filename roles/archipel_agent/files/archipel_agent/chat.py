# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plain words in a chat: a person asks a hypervisor or a virtual machine, and it answers.

To a hypervisor, a command of one of its machines can be said with the machine's name: ``start web``.
"""

from __future__ import annotations

import collections
import re
import typing as t
from xml.etree import ElementTree as ET

from archipel_protocol import errors, jids, payloads

from . import commands
from .commands import Caller, Command

if t.TYPE_CHECKING:
    from .entity import Entity

# Nobody types more; what does not fit is no command.
LONGEST = 500
# A person's pace: this many at once, then one in so many seconds. Who is quicker is told so once.
BURST = 10
PAUSE = 2.0
# Seconds in which a stranger is told once that there is nothing for him here.
DENIED = 3600.0
# Senders that are remembered.
REMEMBERED = 1000
DENIAL = "You may do nothing here."
TOO_QUICK = "That is too quick for me; wait a few seconds."

# What was not written by a person to us, just now: delivered later (XEP-0203, XEP-0091), a copy of what was said
# elsewhere (XEP-0280), from an archive (XEP-0313), a room's (XEP-0045), or by a machine (XEP-0184, XEP-0333).
_NOT_SPOKEN = frozenset(
    (
        "urn:xmpp:delay",
        "jabber:x:delay",
        "urn:xmpp:carbons:2",
        "urn:xmpp:mam:2",
        "http://jabber.org/protocol/muc#user",
    )
)
_NOTICES = frozenset(
    (
        "{urn:xmpp:receipts}received",
        "{urn:xmpp:chat-markers:0}received",
        "{urn:xmpp:chat-markers:0}displayed",
        "{urn:xmpp:chat-markers:0}acknowledged",
    )
)


class Pace:
    """How quickly each of many senders may go on: a bucket of tokens for each; the longest silent are forgotten."""

    def __init__(self, burst: int, pause: float) -> None:
        self._burst, self._pause = float(burst), pause
        # Tokens, when they were counted, and whether the sender was told to slow down since.
        self._senders: collections.OrderedDict[str, tuple[float, float, bool]] = collections.OrderedDict()

    def keeps(self, sender: str, now: float) -> bool:
        """Whether the sender may go on."""
        tokens, before, told = self._senders.pop(sender, (self._burst, now, False))
        tokens = min(self._burst, tokens + (now - before) / self._pause)
        keeps = tokens >= 1
        self._senders[sender] = (tokens - 1, now, False) if keeps else (tokens, now, told)
        if len(self._senders) > REMEMBERED:
            self._senders.popitem(last=False)
        return keeps

    def first_excess(self, sender: str) -> bool:
        """Whether the sender was not told yet; from now on he was."""
        tokens, before, told = self._senders[sender]
        self._senders[sender] = (tokens, before, True)
        return not told


class Message(t.NamedTuple):
    """What a person said; ``sender`` is the full JID, ``kind`` the message's type."""

    sender: str
    kind: str
    text: str
    thread: str


def hear(element: ET.Element, domain: str, hypervisors: t.Container[str]) -> Message | None:
    """The words in a <message/>; None where no person of today speaks to us.

    ``domain`` is the platform's, and ``hypervisors`` are its nodes: two entities that answer each other never end.
    """
    sender, kind = element.get("from", ""), element.get("type", "normal")
    node = jids.node(sender)
    if kind not in ("chat", "normal") or not node:
        return None
    if jids.domain(sender) == domain and (jids.is_uuid(node) or node in hypervisors):
        return None
    text = thread = ""
    for child in element:
        namespace, name = payloads.split_tag(child.tag)
        if namespace in _NOT_SPOKEN or child.tag in _NOTICES:
            return None
        if name == "body" and not text:
            text = child.text or ""
        elif name == "thread":
            thread = child.text or ""
    text = " ".join(text.split())
    return Message(sender, kind, text, thread) if text else None


class Chat:
    """The conversations of one agent's entities."""

    def __init__(self) -> None:
        self._pace = Pace(BURST, PAUSE)
        self._denials = Pace(1, DENIED)

    def too_quick(self, message: Message, now: float) -> bool:
        """Whether the sender has to wait."""
        return not self._pace.keeps(jids.bare(message.sender), now)

    def complains(self, message: Message) -> bool:
        """Whether the one who is too quick is to be told."""
        return self._pace.first_excess(jids.bare(message.sender))

    async def answer(self, entity: Entity, message: Message, now: float) -> str:
        """What to say; empty: nothing."""
        caller = Caller(entity, entity.agent.permissions, message.sender)
        caller, command, rest = _understand(caller, message.text)
        if not _may_anything(caller):
            return DENIAL if self._denials.keeps(jids.bare(message.sender), now) else ""
        if command is None:
            return _help(caller)
        try:
            return await commands.run(caller, command, _values(command, rest))
        except errors.ArchipelError as fault:
            return fault.message


def _understand(caller: Caller, text: str) -> tuple[Caller, Command | None, str]:
    """(who is asked, for what, what else was said): the longest words that fit count."""
    if len(text) > LONGEST:
        return caller, None, ""
    for command, rest in _matches(caller.entity.kind, text):
        return caller, command, rest
    # To a hypervisor: what one of its machines is to do.
    for command, rest in _matches("vm", text):
        found = _machine(caller, rest)
        if found is not None:
            return found[0], command, found[1]
    return caller, None, ""


def _matches(kind: str, text: str) -> t.Iterator[tuple[Command, str]]:
    """The commands whose words ``text`` begins with, the longest words first, and what follows them."""
    phrases = [(words, command) for command in commands.known(kind) for words in command.words]
    for words, command in sorted(phrases, key=lambda phrase: len(phrase[0]), reverse=True):
        match = re.match(re.escape(words) + r"(?: (.*)|[.!?]*)\Z", text, re.IGNORECASE)
        if match is not None:
            yield command, match[1] or ""


def _machine(caller: Caller, text: str) -> tuple[Caller, str] | None:
    """(the machine whose name ``text`` begins with, what follows); only one that the sender may do something with."""
    for entity in caller.agent.vms.values():
        for name in (entity.name, entity.uuid, entity.bare):
            if text == name or text.startswith(name + " "):
                found = Caller(entity, caller.permissions, caller.sender)
                if commands.usable(found):
                    return found, text[len(name) :].strip()
    return None


def _may_anything(caller: Caller) -> bool:
    """Whether the sender may do something with the entity, or with a machine of the hypervisor."""
    return bool(commands.usable(caller) or _on_machines(caller))


def _on_machines(caller: Caller) -> list[Command]:
    """The commands that the sender may use on some machine of the hypervisor."""
    if caller.entity.kind != "hypervisor":
        return []
    actions: set[tuple[str, str]] = set()
    for entity in caller.agent.vms.values():
        actions |= caller.actions(entity)
    return [one for one in commands.known("vm") if (one.namespace, one.action) in actions]


def _values(command: Command, rest: str) -> dict[str, str]:
    """The fields of a command from what followed its words, the last one takes all that is left."""
    parts = rest.split(" ", max(len(command.fields) - 1, 0)) if rest else []
    if not sum(not field.optional for field in command.fields) <= len(parts) <= len(command.fields):
        raise errors.MalformedRequest(f"say: {command.usage}")
    return {field.name: part for field, part in zip(command.fields, parts)}


def _help(caller: Caller) -> str:
    """What the sender may use, and nothing else."""
    lines = [f"{command.usage}: {command.summary}" for command in commands.usable(caller)]
    of_machines = _on_machines(caller)
    if of_machines:
        lines.append("With the name of a virtual machine: " + ", ".join(command.name for command in of_machines))
    return "\n".join(["I understand:", *lines])
