# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""``archipel:declaration`` action ``hypervisor``: what the host has and has left, and what its libvirt can do."""

from __future__ import annotations

import asyncio
import contextlib
import typing as t

from archipel_protocol import declaration as wire, namespaces as ns
from archipel_protocol.errors import CODE_DECLARATION, LibvirtError

from . import domain_xml
from .dispatch import Request, handler
from .domain_xml import attribute_of, text_of
from .libvirt_facade import ignoring_what_went, libvirt

# Seconds between two looks at the processors' times.
_SAMPLE = 0.25
_FOLDERS = ("dir", "fs", "netfs")
_POOL_STATES = {
    libvirt.VIR_STORAGE_POOL_INACTIVE: "inactive",
    libvirt.VIR_STORAGE_POOL_BUILDING: "building",
    libvirt.VIR_STORAGE_POOL_RUNNING: "running",
    libvirt.VIR_STORAGE_POOL_DEGRADED: "degraded",
    libvirt.VIR_STORAGE_POOL_INACCESSIBLE: "inaccessible",
}


@handler(ns.DECLARATION, wire.HYPERVISOR, "declaration_inventory", on="hypervisor", code=CODE_DECLARATION, reads=True)
async def hypervisor(entity: t.Any, request: Request) -> str:
    """docs/protocol.md describes every key."""
    agent = entity.agent
    found = await agent.libvirt.call(describe)
    found["cpu"]["idle"] = await _idle(agent)
    return wire.encode({"hypervisor": agent.node, **found})


async def _idle(agent: t.Any) -> float | None:
    """The share of the processors' time that is idle, 0 to 1; None where libvirt's driver does not tell."""
    try:
        before = await agent.libvirt.call(_times)
        await asyncio.sleep(_SAMPLE)
        after = await agent.libvirt.call(_times)
    except LibvirtError:
        return None
    spent = {kind: after[kind] - before[kind] for kind in after}
    whole = sum(spent.values())
    return round((spent["idle"] + spent.get("iowait", 0)) / whole, 3) if whole else None


def _times(connection: libvirt.virConnect) -> dict[str, int]:
    """Nanoseconds by kernel, user, idle, iowait (virNodeGetCPUStats)."""
    return connection.getCPUStats(libvirt.VIR_NODE_CPU_STATS_ALL_CPUS)


def describe(connection: libvirt.virConnect) -> dict[str, t.Any]:
    """All but the idle time."""
    capabilities = domain_xml.parse(connection.getCapabilities(), "the capabilities")
    pools = [pool for pool in map(_pool, connection.listAllStoragePools()) if pool]
    return {
        "versions": {
            "libvirt": _version(connection.getLibVersion()),
            "driver": connection.getType(),
            "hypervisor": _version(connection.getVersion()),
        },
        "cpu": _cpu(connection, capabilities),
        "memory": memory(connection),
        "guests": _guests(capabilities),
        "pools": sorted((pool for pool, dummy in pools), key=lambda pool: pool["name"]),
        "isos": sorted((iso for dummy, isos in pools for iso in isos), key=lambda iso: iso["path"]),
        "networks": sorted(filter(None, map(_network, connection.listAllNetworks())), key=lambda one: one["name"]),
    }


def _version(number: int) -> str:
    """As virGetVersion encodes it: major * 1,000,000 + minor * 1,000 + release."""
    return f"{number // 1000000}.{number // 1000 % 1000}.{number % 1000}"


def _cpu(connection: libvirt.virConnect, capabilities: domain_xml.Element) -> dict[str, t.Any]:
    arch, dummy, count, mhz, nodes, sockets, cores, threads = connection.getInfo()
    active = connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
    assigned = 0
    for domain in active:
        with ignoring_what_went():
            assigned += domain.info()[3]
    return {
        "arch": arch,
        "model": text_of(capabilities, "host/cpu/model"),
        "count": count,
        "mhz": mhz,
        "numa_nodes": nodes,
        "sockets": sockets,
        "cores": cores,
        "threads": threads,
        "assigned": assigned,
    }


def memory(connection: libvirt.virConnect) -> dict[str, int]:
    """KiB, of all NUMA nodes. virNodeGetInfo leaves out those without processors."""
    try:
        stats = connection.getMemoryStats(libvirt.VIR_NODE_MEMORY_STATS_ALL_CELLS)
    except libvirt.libvirtError as fault:
        if fault.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT:
            raise
        stats = {"total": connection.getInfo()[1] * 1024, "free": connection.getFreeMemory() // 1024}
    cached = stats.get("buffers", 0) + stats.get("cached", 0)
    return {"total": stats["total"], "free": stats["free"], "cached": cached}


def _guests(capabilities: domain_xml.Element) -> list[dict[str, t.Any]]:
    """What machines may be, by architecture; machine types with their aliases."""
    return [
        {
            "os_type": text_of(guest, "os_type"),
            "arch": attribute_of(guest, "arch", "name"),
            "domain_types": [domain.get("type") for domain in guest.findall("arch/domain")],
            "machines": sorted({machine.text for machine in guest.iterfind(".//machine") if machine.text}),
        }
        for guest in capabilities.findall("guest")
    ]


def _pool(pool: libvirt.virStoragePool) -> tuple[dict[str, t.Any], list[dict[str, t.Any]]] | None:
    """A pool, sizes in bytes, and the CD images in it; None for one that has just gone."""
    with ignoring_what_went():
        description = domain_xml.parse(pool.XMLDesc(), "the storage pool")
        state, capacity, allocation, available = pool.info()
        found = {
            "name": pool.name(),
            "type": description.get("type"),
            "path": text_of(description, "target/path") or None,
            "state": _POOL_STATES.get(state, "unknown"),
            "autostart": bool(pool.autostart()),
            "capacity": capacity,
            "allocation": allocation,
            "available": available,
        }
        return found, _isos(pool, found["type"] in _FOLDERS) if pool.isActive() else []
    return None


def _isos(pool: libvirt.virStoragePool, is_folder: bool) -> list[dict[str, t.Any]]:
    if is_folder:
        with contextlib.suppress(libvirt.libvirtError):
            pool.refresh()  # or what was copied into it is not seen; libvirt refuses while a volume is made
    found = []
    for volume in pool.listAllVolumes():
        with ignoring_what_went():
            if volume.name().lower().endswith(".iso"):
                path, size = volume.path(), volume.info()[1]
                found.append({"pool": pool.name(), "name": volume.name(), "path": path, "size": size})
    return found


def _network(network: libvirt.virNetwork) -> dict[str, t.Any] | None:
    with ignoring_what_went():
        forward = domain_xml.parse(network.XMLDesc(), "the network").find("forward")
        return {
            "name": network.name(),
            "active": bool(network.isActive()),
            "autostart": bool(network.autostart()) if network.isPersistent() else False,
            "forward": "isolated" if forward is None else forward.get("mode", "nat"),
        }
    return None
