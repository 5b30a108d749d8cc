# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What there is to know of a hypervisor: address, processors, what libvirt can do, where machines migrate to."""

from __future__ import annotations

import typing as t
from xml.etree import ElementTree as ET

from archipel_protocol import errors, namespaces as ns

from . import host_access, xmpp
from .dispatch import Reply, Request, handler
from .libvirt_facade import libvirt

if t.TYPE_CHECKING:
    from .agent import Agent
    from .entity import Entity

_IP = f"{{{ns.HYPERVISOR_CONTROL}}}ip"
_MIGRATION = f"{{{ns.HYPERVISOR_CONTROL}}}migration"
_NODE = f"{{{ns.HYPERVISOR_CONTROL}}}nodeinfo"
# In the order of virNodeGetInfo; memory in MiB.
_NODE_INFO = "model memory nrCPU mHzCPU nrNumaNodes nrSockets nrCoreperSocket nrThreadperCore".split()


@handler(ns.HYPERVISOR_CONTROL, "ip", "ip", on="hypervisor", code=errors.CODE_HYPERVISOR_IP, reads=True)
async def ip(entity: Entity, request: Request) -> Reply:
    """<ip>A.B.C.D</ip>: the address from which the XMPP server is reached."""
    element = ET.Element(_IP)
    element.text = _address(entity.agent)
    return [element]


@handler(
    ns.HYPERVISOR_CONTROL,
    "migrationinfo",
    "migrationinfo",
    on="hypervisor",
    code=errors.CODE_HYPERVISOR_MIGRATIONINFO,
    reads=True,
)
async def migrationinfo(entity: Entity, request: Request) -> Reply:
    """<migration libvirt_uri base_folder/>, for people: agents take both from their own configuration."""
    address = _address(entity.agent)
    driver, dummy, path = entity.agent.libvirt.uri.partition("://")
    host = f"[{address}]" if ":" in address else address
    uri = f"{driver.partition('+')[0]}+tls://{host}/{path.partition('/')[2]}"
    return [ET.Element(_MIGRATION, {"libvirt_uri": uri, "base_folder": host_access.ALLOWED_ROOT})]


@handler(
    ns.HYPERVISOR_CONTROL,
    "nodeinfo",
    "nodeinfo",
    on="hypervisor",
    code=errors.CODE_HYPERVISOR_NODEINFO,
    reads=True,
)
async def nodeinfo(entity: Entity, request: Request) -> Reply:
    """<nodeinfo model memory nrCPU mHzCPU nrNumaNodes nrSockets nrCoreperSocket nrThreadperCore/>; memory in MiB."""
    values = await entity.agent.libvirt.call(_node_info)
    return [ET.Element(_NODE, dict(zip(_NODE_INFO, map(str, values))))]


@handler(
    ns.HYPERVISOR_CONTROL,
    "capabilities",
    "capabilities",
    on="hypervisor",
    code=errors.CODE_HYPERVISOR_CAPABILITIES,
    reads=True,
)
@handler(ns.VM_DEFINITION, "capabilities", "capabilities", on="vm", code=errors.CODE_VM_CAPABILITIES, reads=True)
async def capabilities(entity: Entity, request: Request) -> Reply:
    """libvirt's <capabilities/> (https://libvirt.org/formatcaps.html), of the hypervisor in both places."""
    return [ET.fromstring(await entity.agent.libvirt.call(_capabilities))]


def _address(agent: Agent) -> str:
    session = agent.hypervisor.session
    address = "" if session is None else session.local_address
    if not address:
        raise xmpp.Unreachable(f"{agent.node} is not connected to the XMPP server")
    return address


# In a thread


def _node_info(connection: libvirt.virConnect) -> list[t.Any]:
    return list(connection.getInfo())


def _capabilities(connection: libvirt.virConnect) -> str:
    return str(connection.getCapabilities())
