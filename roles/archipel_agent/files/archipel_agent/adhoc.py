# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ad-hoc commands (XEP-0050): the commands as menus of graphical clients, with a form (XEP-0004) where one asks more.

Nothing is remembered between the stages of a command: a form that comes back holds all that its command needs, and the
permission is checked when it is carried out. So nobody can fill the memory with sessions, nor use another's.
"""

from __future__ import annotations

import secrets
import typing as t
from xml.etree import ElementTree as ET

from archipel_protocol import errors, namespaces as ns

from . import commands
from .commands import Caller, Command

_COMMAND = f"{{{ns.COMMANDS}}}command"
_FORM = f"{{{ns.DATA_FORMS}}}x"
_FIELD = f"{{{ns.DATA_FORMS}}}field"
_VALUE = f"{{{ns.DATA_FORMS}}}value"


class Refused(Exception):
    """XMPP's own condition (RFC 6120, 8.3.3), and that of XEP-0050, 4.4, where there is one; the text is for people."""

    def __init__(self, kind: str, condition: str, text: str, detail: str = "") -> None:
        super().__init__(text)
        self.kind, self.condition, self.text, self.detail = kind, condition, text, detail


def find(caller: Caller, node: str) -> Command:
    """The command behind a node, if the sender may use it; raises Refused."""
    for command in commands.known(caller.entity.kind):
        if command.name == node:
            if command in commands.usable(caller):
                return command
            raise Refused("auth", "forbidden", f"you may not use the command '{node}'")
    raise Refused("cancel", "item-not-found", f"there is no command '{node}'")


async def execute(caller: Caller, stage: ET.Element) -> ET.Element:
    """The <command/> that answers one of the sender's; raises Refused."""
    command = find(caller, stage.get("node", ""))
    action = stage.get("action", "execute")
    if action == "cancel":
        return _answer(stage, "canceled")
    if action not in ("execute", "complete", "next"):
        raise Refused("modify", "bad-request", f"the action '{action}' is not possible here", "bad-action")
    form = stage.find(_FORM)
    if command.fields and (form is None or form.get("type") != "submit"):
        return _ask(caller, command, stage)
    try:
        text = await commands.run(caller, command, {} if form is None else _submitted(form))
    except errors.PermissionDenied as fault:
        raise Refused("auth", "forbidden", fault.message) from None
    except errors.MalformedRequest as fault:
        return _ask(caller, command, stage, fault.message)
    except errors.ArchipelError as fault:
        return _note(_answer(stage, "completed"), "error", fault.message)
    return _note(_answer(stage, "completed"), "info", text)


def _answer(stage: ET.Element, status: str) -> ET.Element:
    session = stage.get("sessionid") or secrets.token_hex(8)
    return ET.Element(_COMMAND, {"node": stage.get("node", ""), "sessionid": session, "status": status})


def _note(answer: ET.Element, kind: str, text: str) -> ET.Element:
    ET.SubElement(answer, f"{{{ns.COMMANDS}}}note", {"type": kind}).text = text
    return answer


def _ask(caller: Caller, command: Command, stage: ET.Element, complaint: str = "") -> ET.Element:
    """The form of a command, again where something in it was wrong."""
    answer = _answer(stage, "executing")
    actions = ET.SubElement(answer, f"{{{ns.COMMANDS}}}actions", {"execute": "complete"})
    ET.SubElement(actions, f"{{{ns.COMMANDS}}}complete")
    form = ET.SubElement(answer, _FORM, {"type": "form"})
    ET.SubElement(form, f"{{{ns.DATA_FORMS}}}title").text = f"{caller.entity.name}: {command.summary}"
    for field in command.fields:
        kind = "text-single" if field.choices is None else "list-single"
        element = ET.SubElement(form, _FIELD, {"var": field.name, "type": kind, "label": field.label})
        if not field.optional:
            ET.SubElement(element, f"{{{ns.DATA_FORMS}}}required")
        for choice in () if field.choices is None else field.choices(caller):
            option = ET.SubElement(element, f"{{{ns.DATA_FORMS}}}option", {"label": choice})
            ET.SubElement(option, _VALUE).text = choice
    if complaint:
        _note(answer, "error", complaint)
    return answer


def _submitted(form: ET.Element) -> dict[str, str]:
    return {field.get("var", ""): field.findtext(_VALUE) or "" for field in form.iter(_FIELD)}


def items(caller: Caller) -> t.Iterator[ET.Element]:
    """What the sender may use, as items of the node of all commands (XEP-0050, 2.2)."""
    for command in commands.usable(caller):
        attributes = {"jid": caller.entity.jid, "node": command.name, "name": command.label}
        yield ET.Element(f"{{{ns.DISCO_ITEMS}}}item", attributes)
