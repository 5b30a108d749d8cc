# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""archipel:vm:control: power, facts and definition of one virtual machine. migrate is in migration.py."""

from __future__ import annotations

import asyncio
import contextlib
import typing as t
from xml.etree import ElementTree as ET

from archipel_protocol import errors, namespaces as ns, states

from . import domain_xml, domains, image_chains
from .dispatch import Reply, Request, handler
from .libvirt_facade import DomainNotFound, libvirt

if t.TYPE_CHECKING:
    from .virtual_machine import VirtualMachineEntity

_INFO = f"{{{ns.VM_CONTROL}}}info"
_DOMAIN = f"{{{ns.VM_CONTROL}}}domain"
_NOT_DEFINED = f"{{{ns.VM_CONTROL}}}not-defined"

T = t.TypeVar("T")


async def on_domain(entity: VirtualMachineEntity, code: int, function: t.Callable[..., T], *args: t.Any) -> T:
    """Calls ``function(domain, *args)``; says so where libvirt has no such domain."""

    def run(connection: libvirt.virConnect, uuid: str) -> T:
        return function(connection.lookupByUUIDString(uuid), *args)

    run.__name__ = function.__name__
    with defined(entity, code):
        return await entity.agent.libvirt.call(run, entity.uuid)


@contextlib.contextmanager
def defined(entity: VirtualMachineEntity, code: int) -> t.Iterator[None]:
    """Says so where libvirt has no such domain, in what is asked of it inside."""
    try:
        yield
    except DomainNotFound:
        raise errors.ArchipelError(f"{entity.name} is not defined", code) from None


@handler(ns.VM_CONTROL, "create", "create", on="vm", code=errors.CODE_VM_CREATE)
async def create(entity: VirtualMachineEntity, request: Request) -> Reply:
    """Starts it. <domain id="N"/>"""
    async with entity.agent.lock(entity.uuid):
        with defined(entity, errors.CODE_VM_CREATE):
            await image_chains.refuse_start(entity.agent, request, entity.uuid)
        number = await on_domain(entity, errors.CODE_VM_CREATE, _start)
    return [ET.Element(_DOMAIN, {"id": str(number)})]


@handler(ns.VM_CONTROL, "shutdown", "shutdown", on="vm", code=errors.CODE_VM_SHUTDOWN)
async def shutdown(entity: VirtualMachineEntity, request: Request) -> Reply:
    """Asks the guest to shut down, and does not wait for it; not one that is protected."""
    async with entity.agent.lock(entity.uuid):
        await on_domain(entity, errors.CODE_VM_SHUTDOWN, _shut_down)
        if entity.state == states.RUNNING:
            entity.show(entity.shown[0], states.PRESENCE[states.SHUTDOWN][1])


@handler(ns.VM_CONTROL, "destroy", "destroy", on="vm", code=errors.CODE_VM_DESTROY)
async def destroy(entity: VirtualMachineEntity, request: Request) -> Reply:
    """Powers off; nothing happens to one that is off. Not one that is protected."""
    async with entity.agent.lock(entity.uuid):
        await on_domain(entity, errors.CODE_VM_DESTROY, _power_off)


@handler(ns.VM_CONTROL, "suspend", "suspend", on="vm", code=errors.CODE_VM_SUSPEND)
async def suspend(entity: VirtualMachineEntity, request: Request) -> Reply:
    """Pauses."""
    async with entity.agent.lock(entity.uuid):
        await on_domain(entity, errors.CODE_VM_SUSPEND, _suspend)


@handler(ns.VM_CONTROL, "resume", "resume", on="vm", code=errors.CODE_VM_RESUME)
async def resume(entity: VirtualMachineEntity, request: Request) -> Reply:
    """Continues after a pause."""
    async with entity.agent.lock(entity.uuid):
        await on_domain(entity, errors.CODE_VM_RESUME, _resume)


@handler(ns.VM_CONTROL, "reboot", "reboot", on="vm", code=errors.CODE_VM_REBOOT)
async def reboot(entity: VirtualMachineEntity, request: Request) -> Reply:
    """Asks the guest to boot again, and does not wait for it."""
    async with entity.agent.lock(entity.uuid):
        await on_domain(entity, errors.CODE_VM_REBOOT, _reboot)


@handler(ns.VM_CONTROL, "autostart", "autostart", on="vm", code=errors.CODE_VM_AUTOSTART)
async def autostart(entity: VirtualMachineEntity, request: Request) -> Reply:
    """value="0/1": whether it starts with its hypervisor."""
    value = request.number("value", 0, 1)
    async with entity.agent.lock(entity.uuid):
        await on_domain(entity, errors.CODE_VM_AUTOSTART, _set_autostart, value)


@handler(ns.VM_CONTROL, "info", "info", on="vm", code=errors.CODE_VM_INFO, reads=True)
async def info(entity: VirtualMachineEntity, request: Request) -> Reply:
    """<info state maxMem memory nrVirtCpu cpuPrct hypervisor autostart/>; memory in KiB.

    cpuPrct counts since the request before, so that nobody has to wait for a second sample; 0 in the first answer.
    """
    found, autostart = await on_domain(entity, errors.CODE_VM_INFO, _info)
    state, most, memory, processors, nanoseconds = found
    now = asyncio.get_running_loop().time()
    before, entity.cpu_sample = entity.cpu_sample, (now, nanoseconds)
    share = 0.0
    if before is not None and now > before[0] and nanoseconds >= before[1]:
        share = (nanoseconds - before[1]) / 1e7 / (now - before[0]) / max(processors, 1)
    attributes = {
        "state": str(state),
        "maxMem": str(most),
        "memory": str(memory),
        "nrVirtCpu": str(processors),
        "cpuPrct": f"{min(share, 100):.1f}",
        "hypervisor": entity.agent.jid,
        "autostart": str(autostart),
    }
    return [ET.Element(_INFO, attributes)]


@handler(ns.VM_CONTROL, "xmldesc", "xmldesc", on="vm", code=errors.CODE_VM_XMLDESC, reads=True)
async def xmldesc(entity: VirtualMachineEntity, request: Request) -> Reply:
    """The definition as an element, without any password; <not-defined/> where there is none."""
    try:
        text = await on_domain(entity, errors.CODE_VM_XMLDESC, _xmldesc)
    except errors.LibvirtError:
        raise
    except errors.ArchipelError:
        return [ET.Element(_NOT_DEFINED)]
    domain = ET.fromstring(text)
    for description in domain.findall("description"):
        description.text = domain_xml.without_password(description.text or "")
    return [domain]


# In a thread


def _start(domain: libvirt.virDomain) -> int:
    domain.create()
    return int(domain.ID())


def _shut_down(domain: libvirt.virDomain) -> None:
    domains.refuse_protected(domain, "stopped", errors.CODE_VM_SHUTDOWN)
    domain.shutdown()


def _power_off(domain: libvirt.virDomain) -> None:
    if domain.isActive():
        domains.refuse_protected(domain, "stopped", errors.CODE_VM_DESTROY)
        domain.destroy()


def _suspend(domain: libvirt.virDomain) -> None:
    domain.suspend()


def _resume(domain: libvirt.virDomain) -> None:
    domain.resume()


def _reboot(domain: libvirt.virDomain) -> None:
    domain.reboot()


def _set_autostart(domain: libvirt.virDomain, value: int) -> None:
    domain.setAutostart(value)


def _info(domain: libvirt.virDomain) -> tuple[list[int], int]:
    return domain.info(), domain.autostart()


def _xmldesc(domain: libvirt.virDomain) -> str:
    """Without VIR_DOMAIN_XML_SECURE, which alone shows passwords."""
    return str(domain.XMLDesc())
