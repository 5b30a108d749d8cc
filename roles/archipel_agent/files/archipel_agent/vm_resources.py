# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""archipel:vm:control: memory, processors and network counters of one virtual machine, and what libvirt can give it."""

from __future__ import annotations

import typing as t
from xml.etree import ElementTree as ET

from archipel_protocol import errors, namespaces as ns

from . import changes, domain_xml
from .dispatch import Reply, Request, handler
from .domain_xml import attribute_of
from .libvirt_facade import libvirt
from .vm_control import on_domain

if t.TYPE_CHECKING:
    from .virtual_machine import VirtualMachineEntity

_NETWORK = f"{{{ns.VM_CONTROL}}}network"
# In the order of virDomainInterfaceStats.
_COUNTERS = ("rx_bytes", "rx_packets", "rx_errs", "rx_drop", "tx_bytes", "tx_packets", "tx_errs", "tx_drop")
# KiB; Archipel's.
_LEAST_MEMORY = 10


@handler(ns.VM_CONTROL, "memory", "memory", on="vm", code=errors.CODE_VM_MEMORY)
async def memory(entity: VirtualMachineEntity, request: Request) -> Reply:
    """value="KiB": what a running guest may use from now on, or one that is off from its next start on."""
    value = request.number("value", _LEAST_MEMORY)
    async with entity.agent.lock(entity.uuid):
        await on_domain(entity, errors.CODE_VM_MEMORY, _set_memory, value)
        entity.agent.pushes.publish(entity, changes.CONTROL, "memory")


@handler(ns.VM_CONTROL, "setvcpus", "setvcpus", on="vm", code=errors.CODE_VM_MEMORY)
async def setvcpus(entity: VirtualMachineEntity, request: Request) -> Reply:
    """value="N": the processors of a running guest, or of the next start of one that is off."""
    value = request.number("value", 1)
    async with entity.agent.lock(entity.uuid):
        await on_domain(entity, errors.CODE_VM_MEMORY, _set_processors, value)
        for kind in (changes.CONTROL, changes.DEFINITION):
            entity.agent.pushes.publish(entity, kind, "nvcpu")


@handler(ns.VM_CONTROL, "networkinfo", "networkinfo", on="vm", code=errors.CODE_VM_NETWORKINFO, reads=True)
async def networkinfo(entity: VirtualMachineEntity, request: Request) -> Reply:
    """<network name rx_bytes rx_packets rx_errs rx_drop tx_bytes tx_packets tx_errs tx_drop/>*, since the start."""
    found = await on_domain(entity, errors.CODE_VM_NETWORKINFO, _counters, entity.name)
    return [
        ET.Element(_NETWORK, {"name": name, **dict(zip(_COUNTERS, map(str, counters)))}) for name, counters in found
    ]


# In a thread


def _set_memory(domain: libvirt.virDomain, value: int) -> None:
    most = domain.maxMemory()
    if value > most:
        message = (
            f"value is {value} KiB, and the virtual machine has {most} KiB at most; its definition can give it more"
        )
        raise errors.ArchipelError(message, errors.CODE_VM_MEMORY)
    domain.setMemoryFlags(value, libvirt.VIR_DOMAIN_AFFECT_CURRENT)


def _set_processors(domain: libvirt.virDomain, value: int) -> None:
    most = domain.vcpusFlags(libvirt.VIR_DOMAIN_VCPU_MAXIMUM | libvirt.VIR_DOMAIN_AFFECT_CURRENT)
    if value > most:
        message = (
            f"value is {value}, and the virtual machine has {most} processors at most; its definition can give more"
        )
        raise errors.ArchipelError(message, errors.CODE_VM_MEMORY)
    domain.setVcpusFlags(value, libvirt.VIR_DOMAIN_AFFECT_CURRENT)


def _counters(domain: libvirt.virDomain, name: str) -> list[tuple[str, t.Sequence[int]]]:
    """(alias, or device where there is none; counters) of each interface."""
    if not domain.isActive():
        raise errors.ArchipelError(f"{name} is not running, so it transfers nothing", errors.CODE_VM_NETWORKINFO)
    found = []
    for interface in domain_xml.parse_domain(domain.XMLDesc(), "the definition").findall("devices/interface"):
        device = attribute_of(interface, "target", "dev")
        if device:
            found.append((attribute_of(interface, "alias", "name", device), domain.interfaceStats(device)))
    return found
