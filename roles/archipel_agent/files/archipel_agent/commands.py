# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a person may ask for in words (chat.py) or from a menu (adhoc.py).

A command is another way to say an action: it makes the <archipel/> of a request, and dispatch does the rest, the check
of the permission included.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t
from xml.etree import ElementTree as ET

from archipel_protocol import errors, jids, namespaces as ns, tags

from . import answers, dispatch
from .permissions import Permissions

if t.TYPE_CHECKING:
    from .agent import Agent
    from .entity import Entity


@dataclasses.dataclass(frozen=True)
class Caller:
    """Who asks whom."""

    entity: Entity
    permissions: Permissions
    sender: str

    @property
    def agent(self) -> Agent:
        """The agent of the entity."""
        return self.entity.agent

    def actions(self, entity: Entity) -> set[tuple[str, str]]:
        """(namespace, action) of all that the sender may ask of ``entity``."""
        allowed = dispatch.allowed(entity, self.permissions, self.sender)
        return {(handler.namespace, handler.action) for handler in allowed}


@dataclasses.dataclass(frozen=True)
class Field:
    """What a command has to know: ``read`` makes the attribute ``name`` of <archipel/> of what a person wrote.

    It raises ValueError saying what would be right. ``choices`` are all the values there are, None: any. What is
    ``optional`` may be left out, and the action sees to it; nothing that has to be said comes after it.
    """

    name: str
    label: str
    read: t.Callable[[Caller, str], str]
    choices: t.Callable[[Caller], list[str]] | None = None
    optional: bool = False

    @property
    def usage(self) -> str:
        """The value as help texts show it."""
        return f"[{self.label}]" if self.optional else f"<{self.label}>"


@dataclasses.dataclass(frozen=True)
class Command:
    """``words`` say it in a chat, the first of them names it everywhere; ``tell`` words the answer of the action."""

    words: tuple[str, ...]
    on: str
    namespace: str
    action: str
    summary: str
    tell: t.Callable[[Caller, dispatch.Reply], str]
    fields: tuple[Field, ...] = ()

    @property
    def name(self) -> str:
        """The word in help texts, and the node of XEP-0050."""
        return self.words[0]

    @property
    def label(self) -> str:
        """The command in a menu."""
        return f"{self.name}: {self.summary}"

    @property
    def usage(self) -> str:
        """The command as it is to be written."""
        return " ".join([self.name, *(field.usage for field in self.fields)])


def usable(caller: Caller) -> list[Command]:
    """The commands that the sender may use on the entity."""
    actions = caller.actions(caller.entity)
    return [one for one in known(caller.entity.kind) if (one.namespace, one.action) in actions]


def known(kind: str) -> list[Command]:
    """All commands of a kind of entity."""
    return [one for one in COMMANDS if one.on == kind]


async def run(caller: Caller, command: Command, values: t.Mapping[str, str]) -> str:
    """Does what the command says; the answer in words. ``values`` by the fields' names. Raises ArchipelError."""
    # Before a value is read: what would be right is not everybody's to know.
    dispatch.permitted(caller.entity, caller.permissions, caller.sender, command.namespace, command.action)
    attributes = {"action": command.action}
    for field in command.fields:
        text = values.get(field.name, "").strip()
        if field.optional and not text:
            continue
        try:
            attributes[field.name] = field.read(caller, text)
        except ValueError as exc:
            raise errors.MalformedRequest(f"{field.label}: {exc}") from None
    element = ET.Element(f"{{{command.namespace}}}archipel", attributes)
    reply = await dispatch.perform(
        caller.entity, caller.permissions, caller.sender, command.namespace, command.action, element
    )
    return command.tell(caller, reply)


# What people write


def _peers(caller: Caller) -> list[str]:
    return sorted(caller.agent.config.peers)


def _peer(caller: Caller, text: str) -> str:
    """The full JID of a hypervisor that the machine may move to."""
    node = jids.node(text) if "@" in text else text.lower()
    known = _peers(caller)
    if node not in known:
        raise ValueError(f"'{text}' is none of the other hypervisors: {', '.join(known) or 'there are none'}")
    return jids.hypervisor_jid(node, caller.agent.domain)


def _memory(caller: Caller, text: str) -> str:
    """KiB, as the action takes it. Without a unit nobody would know which one was meant."""
    match = re.fullmatch(r"([0-9]{1,15}) ?([KMG])(?:iB)?", text, re.IGNORECASE)
    if match is None:
        raise ValueError(f"'{text}' is no size like 512 MiB or 2 GiB")
    return str(int(match[1]) << {"K": 0, "M": 10, "G": 20}[match[2].upper()])


def _number(caller: Caller, text: str) -> str:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise ValueError(f"'{text}' is not a whole number")
    return text


_SWITCH = {"on": "1", "off": "0"}


def _switch(caller: Caller, text: str) -> str:
    if text.lower() not in _SWITCH:
        raise ValueError(f"'{text}' is neither on nor off")
    return _SWITCH[text.lower()]


def _vms(caller: Caller) -> list[str]:
    """The names of the machines that the sender could see in another way, too."""
    sees_all = (ns.HYPERVISOR_CONTROL, "rostervm") in caller.actions(caller.entity)
    return sorted(vm.name for vm in caller.agent.vms.values() if sees_all or caller.actions(vm))


def _vm(caller: Caller, text: str) -> str:
    """The bare JID of the machine of a name, a UUID, or an address."""
    for vm in caller.agent.vms.values():
        if text in (vm.name, vm.uuid, vm.bare):
            return str(vm.bare)
    raise ValueError(f"'{text}' is no virtual machine of {caller.agent.node}; a name, a UUID or an address is meant")


def _text(caller: Caller, text: str) -> str:
    return text


def _tags(caller: Caller, text: str) -> str:
    """As the action takes them; a person puts commas between them."""
    wanted = [] if text.lower() == "none" else [tag.strip() for tag in text.split(",")]
    problems = tags.problems(wanted)
    if problems:
        raise ValueError("; ".join(problems))
    return tags.join(wanted)


_VM = ("vm", ns.VM_CONTROL)
_HOST = ("hypervisor", ns.HYPERVISOR_CONTROL)

_TAGS = Field("tags", "tags or none", _tags)

# In the order of help. A word that Archipel's agent understood is understood.
COMMANDS: tuple[Command, ...] = (
    Command(("state", "status"), *_VM, "info", "whether it runs", answers.state),
    Command(("info", "how are you", "and you"), *_VM, "info", "state, memory, processors", answers.info),
    Command(("start", "create", "boot", "play", "run"), *_VM, "create", "start it", answers.said("{name} is started")),
    Command(
        ("shutdown", "stop", "shut down"),
        *(*_VM, "shutdown", "ask its system to shut down"),
        answers.said("{name} is asked to shut down"),
    ),
    Command(
        ("destroy", "power off", "poweroff", "kill"),
        *(*_VM, "destroy", "take the power away, at once"),
        answers.said("{name} is powered off"),
    ),
    Command(("suspend", "pause"), *_VM, "suspend", "pause it", answers.said("{name} is paused")),
    Command(("resume", "unpause", "continue"), *_VM, "resume", "let it go on", answers.said("{name} goes on")),
    Command(
        ("migrate", "move"),
        *(*_VM, "migrate", "move it to another hypervisor"),
        answers.said("{name} has moved"),
        (Field("hypervisorjid", "hypervisor", _peer, _peers),),
    ),
    Command(("reboot",), *_VM, "reboot", "ask its system to boot again", answers.said("{name} is asked to boot again")),
    Command(
        ("memory",),
        *(*_VM, "memory", "change the memory that it may use"),
        answers.said("the memory of {name} is set"),
        (Field("value", "size", _memory),),
    ),
    Command(
        ("setvcpus", "vcpus", "processors"),
        *(*_VM, "setvcpus", "change how many processors it has"),
        answers.said("the processors of {name} are set"),
        (Field("value", "number", _number),),
    ),
    Command(
        ("autostart",),
        *(*_VM, "autostart", "whether it starts with its host"),
        answers.said("whether {name} starts with its host is set"),
        (Field("value", "on or off", _switch, lambda caller: list(_SWITCH)),),
    ),
    Command(("networkinfo", "net", "stat"), *_VM, "networkinfo", "what its interfaces transferred", answers.network),
    Command(("xml", "desc", "definition"), *_VM, "xmldesc", "its definition", answers.definition),
    Command(
        ("tags",),
        *("vm", ns.TAGS, "settags", "give it these tags, and no others"),
        answers.said("the tags of {name} are set"),
        (_TAGS,),
    ),
    Command(
        ("undefine",),
        *("vm", ns.VM_DEFINITION, "undefine", "remove its definition; it stays as an entity without one"),
        answers.said("{name} is not defined any more"),
    ),
    Command(
        ("capabilities",),
        *("vm", ns.VM_DEFINITION, "capabilities", "what machines its host can run"),
        answers.capabilities,
    ),
    Command(
        ("list", "vms", "roster", "virtual machines", "domains"),
        *(*_HOST, "rostervm", "the virtual machines of this hypervisor"),
        answers.machines,
    ),
    Command(("nodeinfo", "host"), *_HOST, "nodeinfo", "processors and memory of the host", answers.host),
    Command(("capabilities",), *_HOST, "capabilities", "what machines its host can run", answers.capabilities),
    Command(("ip", "address"), *_HOST, "ip", "its address", answers.address),
    Command(
        ("migrationinfo", "migration info", "libvirt uri"),
        *(*_HOST, "migrationinfo", "where machines migrate to"),
        answers.migration,
    ),
    Command(
        ("alloc",),
        *(*_HOST, "alloc", "make a virtual machine, without a definition yet"),
        answers.made,
        (Field("name", "name", _text, optional=True),),
    ),
    Command(
        ("clone",),
        *(*_HOST, "clone", "make a copy of a virtual machine that is off"),
        answers.made,
        (Field("jid", "machine", _vm, _vms), Field("name", "name", _text, optional=True)),
    ),
    Command(
        ("free",),
        *(*_HOST, "free", "remove a virtual machine, at once; its disks stay"),
        answers.removed,
        (Field("jid", "machine", _vm, _vms),),
    ),
    Command(
        ("tags",),
        *("hypervisor", ns.TAGS, "settags", "give it these tags, and no others"),
        answers.said("the tags of {name} are set"),
        (_TAGS,),
    ),
)
