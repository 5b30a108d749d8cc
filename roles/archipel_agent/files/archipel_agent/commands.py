# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a person may ask for in words (chat.py) or from a menu (adhoc.py), and how the answer reads.

A command is another way to say an action: it makes the <archipel/> of a request, and dispatch does the rest, the check
of the permission included.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t
from xml.etree import ElementTree as ET

from archipel_protocol import errors, jids, namespaces as ns, payloads, states

from . import dispatch
from .permissions import Permissions

if t.TYPE_CHECKING:
    from .agent import Agent
    from .entity import Entity

# Machines that an answer names; a screen holds no more.
LISTED = 200


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


# Answers


def _said(text: str) -> t.Callable[[Caller, dispatch.Reply], str]:
    """An answer that is the same each time, but for the name."""
    return lambda caller, reply: text.format(name=caller.entity.name)


def _children(reply: dispatch.Reply) -> list[ET.Element]:
    return [] if reply is None or isinstance(reply, str) else list(reply)


def _state(number: str) -> str:
    """A state of libvirt's in words."""
    name = states.NAMES.get(int(number), states.NAMES[states.NOSTATE])
    return name.replace("_", " ")


def _tell_state(caller: Caller, reply: dispatch.Reply) -> str:
    info = _children(reply)[0]
    return "{} is {}".format(caller.entity.name, _state(info.get("state", "0")))


def _tell_info(caller: Caller, reply: dispatch.Reply) -> str:
    info = _children(reply)[0]
    lines = [
        "{}: {}".format(caller.entity.name, _state(info.get("state", "0"))),
        "memory: {} of {}".format(_size(info.get("memory", "0")), _size(info.get("maxMem", "0"))),
        "processors: {}, {} % busy".format(info.get("nrVirtCpu"), info.get("cpuPrct")),
        "hypervisor: {}".format(jids.node(info.get("hypervisor", ""))),
        "starts with its host: {}".format("yes" if info.get("autostart") == "1" else "no"),
    ]
    return "\n".join(lines)


def _size(kib: str) -> str:
    """KiB as a person writes it."""
    size, unit = int(kib), "KiB"
    for larger in ("MiB", "GiB"):
        if size < 1024 or size % 1024:
            break
        size, unit = size // 1024, larger
    return f"{size} {unit}"


def _tell_machines(caller: Caller, reply: dispatch.Reply) -> str:
    """One machine a line; its state where the sender may ask for it."""
    lines = sorted(_machine(caller, item) for item in _children(reply))
    more = len(lines) - LISTED
    if more > 0:
        lines[LISTED:] = [f"and {more} more"]
    return "\n".join(lines) or "no virtual machine"


def _machine(caller: Caller, item: ET.Element) -> str:
    name, jid = item.get("name", ""), item.text or ""
    entity = caller.agent.vms.get(jids.node(jid))
    if item.get("managed") != "True" or entity is None:
        return f"{name} ({jids.bare(jid)}): not managed"
    if (ns.VM_CONTROL, "info") not in caller.actions(entity):
        return f"{name} ({jids.bare(jid)})"
    state = "not defined" if entity.state is None else _state(str(entity.state))
    return f"{name} ({jids.bare(jid)}): {state}"


def _tell_network(caller: Caller, reply: dispatch.Reply) -> str:
    line = "{name}: {rx_bytes} bytes received, {tx_bytes} sent; {rx_errs} and {tx_errs} errors"
    lines = [line.format_map(interface.attrib) for interface in _children(reply)]
    return "\n".join(lines) or f"{caller.entity.name} has no interface that transfers anything"


_HOST_TOLD = """\
{host}: {nrCPU} processors ({model}, {mHzCPU} MHz)
memory: {size}
NUMA nodes: {nrNumaNodes}, sockets: {nrSockets}, cores: {nrCoreperSocket}, threads: {nrThreadperCore}"""


def _tell_host(caller: Caller, reply: dispatch.Reply) -> str:
    info = _children(reply)[0].attrib
    return _HOST_TOLD.format(host=caller.entity.name, size=_size(str(int(info["memory"]) << 10)), **info)


def _tell_ip(caller: Caller, reply: dispatch.Reply) -> str:
    return f"{caller.entity.name} has the address {_children(reply)[0].text}"


def _tell_migration(caller: Caller, reply: dispatch.Reply) -> str:
    info = _children(reply)[0]
    return "machines migrate to {libvirt_uri}; their files are under {base_folder}".format_map(info.attrib)


def _tell_made(caller: Caller, reply: dispatch.Reply) -> str:
    jid = _children(reply)[0].get("jid", "")
    vm = caller.agent.vms.get(jids.node(jid))
    return f"{jid if vm is None else vm.name} is made; its address is {jids.bare(jid)}"


def _tell_removed(caller: Caller, reply: dispatch.Reply) -> str:
    return "{} is removed; its disks stay".format(_children(reply)[0].get("jid"))


def _tell_definition(caller: Caller, reply: dispatch.Reply) -> str:
    root = _children(reply)[0]
    if payloads.split_tag(root.tag)[1] == "not-defined":
        return f"{caller.entity.name} is not defined"
    return ET.tostring(root, encoding="unicode")


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


_VM = ("vm", ns.VM_CONTROL)
_HOST = ("hypervisor", ns.HYPERVISOR_CONTROL)

# In the order of help. A word that Archipel's agent understood is understood.
COMMANDS: tuple[Command, ...] = (
    Command(("state", "status"), *_VM, "info", "whether it runs", _tell_state),
    Command(("info", "how are you", "and you"), *_VM, "info", "state, memory, processors", _tell_info),
    Command(("start", "create", "boot", "play", "run"), *_VM, "create", "start it", _said("{name} is started")),
    Command(
        ("shutdown", "stop", "shut down"),
        *(*_VM, "shutdown", "ask its system to shut down"),
        _said("{name} is asked to shut down"),
    ),
    Command(
        ("destroy", "power off", "poweroff", "kill"),
        *(*_VM, "destroy", "take the power away, at once"),
        _said("{name} is powered off"),
    ),
    Command(("suspend", "pause"), *_VM, "suspend", "pause it", _said("{name} is paused")),
    Command(("resume", "unpause", "continue"), *_VM, "resume", "let it go on", _said("{name} goes on")),
    Command(
        ("migrate", "move"),
        *(*_VM, "migrate", "move it to another hypervisor"),
        _said("{name} has moved"),
        (Field("hypervisorjid", "hypervisor", _peer, _peers),),
    ),
    Command(("reboot",), *_VM, "reboot", "ask its system to boot again", _said("{name} is asked to boot again")),
    Command(
        ("memory",),
        *(*_VM, "memory", "change the memory that it may use"),
        _said("the memory of {name} is set"),
        (Field("value", "size", _memory),),
    ),
    Command(
        ("setvcpus", "vcpus", "processors"),
        *(*_VM, "setvcpus", "change how many processors it has"),
        _said("the processors of {name} are set"),
        (Field("value", "number", _number),),
    ),
    Command(
        ("autostart",),
        *(*_VM, "autostart", "whether it starts with its host"),
        _said("whether {name} starts with its host is set"),
        (Field("value", "on or off", _switch, lambda caller: list(_SWITCH)),),
    ),
    Command(("networkinfo", "net", "stat"), *_VM, "networkinfo", "what its interfaces transferred", _tell_network),
    Command(("xml", "desc", "definition"), *_VM, "xmldesc", "its definition", _tell_definition),
    Command(
        ("list", "vms", "roster", "virtual machines", "domains"),
        *(*_HOST, "rostervm", "the virtual machines of this hypervisor"),
        _tell_machines,
    ),
    Command(("nodeinfo", "host"), *_HOST, "nodeinfo", "processors and memory of the host", _tell_host),
    Command(("ip", "address"), *_HOST, "ip", "its address", _tell_ip),
    Command(
        ("migrationinfo", "migration info", "libvirt uri"),
        *(*_HOST, "migrationinfo", "where machines migrate to"),
        _tell_migration,
    ),
    Command(
        ("alloc",),
        *(*_HOST, "alloc", "make a virtual machine, without a definition yet"),
        _tell_made,
        (Field("name", "name", _text, optional=True),),
    ),
    Command(
        ("clone",),
        *(*_HOST, "clone", "make a copy of a virtual machine that is off"),
        _tell_made,
        (Field("jid", "machine", _vm, _vms), Field("name", "name", _text, optional=True)),
    ),
    Command(
        ("free",),
        *(*_HOST, "free", "remove a virtual machine, at once; its disks stay"),
        _tell_removed,
        (Field("jid", "machine", _vm, _vms),),
    ),
)
