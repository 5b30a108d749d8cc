# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""How the answer of an action reads to a person: text of a Caller and a Reply."""

from __future__ import annotations

import typing as t
from xml.etree import ElementTree as ET

from archipel_protocol import jids, namespaces as ns, payloads, states

from . import dispatch

if t.TYPE_CHECKING:
    from .commands import Caller

# Machines that an answer names; a screen holds no more.
LISTED = 200


def said(text: str) -> t.Callable[[Caller, dispatch.Reply], str]:
    """An answer that is the same each time, but for the name."""
    return lambda caller, reply: text.format(name=caller.entity.name)


def _children(reply: dispatch.Reply) -> list[ET.Element]:
    return [] if reply is None or isinstance(reply, str) else list(reply)


def _state(number: str) -> str:
    """A state of libvirt's in words."""
    name = states.NAMES.get(int(number), states.NAMES[states.NOSTATE])
    return name.replace("_", " ")


def state(caller: Caller, reply: dispatch.Reply) -> str:
    info = _children(reply)[0]
    return "{} is {}".format(caller.entity.name, _state(info.get("state", "0")))


def info(caller: Caller, reply: dispatch.Reply) -> str:
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


def machines(caller: Caller, reply: dispatch.Reply) -> str:
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


def network(caller: Caller, reply: dispatch.Reply) -> str:
    line = "{name}: {rx_bytes} bytes received, {tx_bytes} sent; {rx_errs} and {tx_errs} errors"
    lines = [line.format_map(interface.attrib) for interface in _children(reply)]
    return "\n".join(lines) or f"{caller.entity.name} has no interface that transfers anything"


_HOST_TOLD = """\
{host}: {nrCPU} processors ({model}, {mHzCPU} MHz)
memory: {size}
NUMA nodes: {nrNumaNodes}, sockets: {nrSockets}, cores: {nrCoreperSocket}, threads: {nrThreadperCore}"""


def host(caller: Caller, reply: dispatch.Reply) -> str:
    info = _children(reply)[0].attrib
    return _HOST_TOLD.format(host=caller.entity.name, size=_size(str(int(info["memory"]) << 10)), **info)


def address(caller: Caller, reply: dispatch.Reply) -> str:
    return f"{caller.entity.name} has the address {_children(reply)[0].text}"


def migration(caller: Caller, reply: dispatch.Reply) -> str:
    info = _children(reply)[0]
    return "machines migrate to {libvirt_uri}; their files are under {base_folder}".format_map(info.attrib)


def made(caller: Caller, reply: dispatch.Reply) -> str:
    jid = _children(reply)[0].get("jid", "")
    vm = caller.agent.vms.get(jids.node(jid))
    return f"{jid if vm is None else vm.name} is made; its address is {jids.bare(jid)}"


def removed(caller: Caller, reply: dispatch.Reply) -> str:
    return "{} is removed; its disks stay".format(_children(reply)[0].get("jid"))


def definition(caller: Caller, reply: dispatch.Reply) -> str:
    root = _children(reply)[0]
    if payloads.split_tag(root.tag)[1] == "not-defined":
        return f"{caller.entity.name} is not defined"
    return ET.tostring(root, encoding="unicode")


def capabilities(caller: Caller, reply: dispatch.Reply) -> str:
    """Of libvirt's XML (https://libvirt.org/formatcaps.html), a line for each kind of machine."""
    guests = _children(reply)[0].findall("guest")
    lines = [
        "{} ({}): {}".format(
            "".join(arch.get("name", "") for arch in guest.findall("arch")),
            guest.findtext("os_type", ""),
            ", ".join(domain.get("type", "") for domain in guest.iterfind("arch/domain")),
        )
        for guest in guests
    ]
    return "\n".join(lines) or f"libvirt on {caller.agent.node} runs no machines"
