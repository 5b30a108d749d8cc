# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a machine that wants to come here needs, and this host does not have: all of it at once. In threads.

The target tells facts about itself; libvirt checks again whatever it looks at itself.
"""

from __future__ import annotations

import os.path
import typing as t

from archipel_protocol.errors import ArchipelError

from . import describe, domain_xml, hypervisor_info, image_chains, own_files, preflight, volumes
from .domain_xml import Element, attribute_of
from .host_access import is_inside
from .libvirt_facade import libvirt
from .migration_needs import Copy, Needs


class Answer(t.NamedTuple):
    """``copy``: the targets of the disks that this host has no file of, and a place for."""

    problems: list[str]
    copy: list[str]


def answer(connection: libvirt.virConnect, needs: Needs) -> Answer:
    """Whether a machine can come here; raises MalformedRequest."""
    domain = domain_xml.parse_domain(needs.domain)
    lacking = [one for one in needs.copies if not _exists(connection, one.path)]
    problems = [
        *_board(connection, domain),
        *_processor(connection, domain, needs),
        *_free_memory(connection, domain, needs),
        # Who may send this has this host's libvirt at its feet (its certificate), so nothing is hidden from it.
        *preflight.problems(connection, needs.domain, lambda path: True),
        *_inactive_networks(connection, domain, needs),
        *_variables(domain, needs),
        *_storage(connection, domain),
        *_room(connection, lacking),
        *_images(connection, domain, needs),
    ]
    return Answer(list(dict.fromkeys(problems)), [one.target for one in lacking])


def _kind(domain: Element) -> tuple[str | None, str | None, str | None]:
    """(architecture, machine, domain type)"""
    return (
        attribute_of(domain, "os/type", "arch") or None,
        attribute_of(domain, "os/type", "machine") or None,
        domain.get("type"),
    )


def _board(connection: libvirt.virConnect, domain: Element) -> t.Iterator[str]:
    if connection.getType() != "QEMU":
        return
    try:
        # Not with the emulator that the definition names: libvirt would run it.
        connection.getDomainCapabilities(None, *_kind(domain))
    except libvirt.libvirtError as fault:
        yield f"such a machine cannot run here: {fault.get_error_message()}"


def _processor(connection: libvirt.virConnect, domain: Element, needs: Needs) -> t.Iterator[str]:
    if not needs.cpu or connection.getType() != "QEMU":
        return
    demand = libvirt.VIR_CONNECT_COMPARE_CPU_FAIL_INCOMPATIBLE
    try:
        if needs.host_cpu:
            connection.compareCPU(needs.cpu, demand)
        else:
            connection.compareHypervisorCPU(None, *_kind(domain), needs.cpu, demand)
    except libvirt.libvirtError as fault:
        # Where libvirt cannot compare, it says so at the migration itself, if it matters.
        if fault.get_error_code() == libvirt.VIR_ERR_CPU_INCOMPATIBLE:
            yield f"the processor here cannot stand in for the guest's: {fault.get_error_message()}"


def _free_memory(connection: libvirt.virConnect, domain: Element, needs: Needs) -> t.Iterator[str]:
    size = domain.find("currentMemory" if domain.find("currentMemory") is not None else "memory")
    if not needs.live or size is None:
        return
    memory = hypervisor_info.memory(connection)
    left, own = memory["free"] + memory["cached"], domain_xml.kibibytes(size)
    if own > left:
        yield f"the memory, {describe.size(own)}, is more than the {describe.size(left)} that are free here"


def _inactive_networks(connection: libvirt.virConnect, domain: Element, needs: Needs) -> t.Iterator[str]:
    if not needs.live:
        return
    used = {attribute_of(one, "source", "network") for one in domain.findall("devices/interface[@type='network']")}
    for network in connection.listAllNetworks(libvirt.VIR_CONNECT_LIST_NETWORKS_INACTIVE):
        if network.name() in used:
            yield f"the network '{network.name()}' is not active here"


def _variables(domain: Element, needs: Needs) -> t.Iterator[str]:
    """A guest that runs brings them. The source tells of a file that it has itself, outside of libvirt's folder."""
    path = own_files.stated_variables(domain)
    if not needs.live and path and not os.path.exists(path):
        yield f"there is no file {path} here"


def _storage(connection: libvirt.virConnect, domain: Element) -> t.Iterator[str]:
    """Volumes of pools; preflight has looked at paths."""
    for disk in domain.findall("devices/disk[@type='volume']"):
        pool, name = attribute_of(disk, "source", "pool"), attribute_of(disk, "source", "volume")
        try:
            found, dummy = volumes.look_up(connection, [(pool, name)], ())
        except ArchipelError as fault:
            yield fault.message
            continue
        if not found[(pool, name)].exists:
            yield f"the volume {pool}/{name} does not exist here"


def _images(connection: libvirt.virConnect, domain: Element, needs: Needs) -> t.Iterator[str]:
    """To go on here is a start here, with the files that have these paths here."""
    if needs.live and not needs.host_access:
        # A disk that could be copied, and has a file here, is not copied.
        present = [one.path for one in needs.copies if is_inside(one.path) and _exists(connection, one.path)]
        reasons = image_chains.images_outside(connection, domain) + image_chains.chains_outside(connection, present)
        if reasons:
            yield f"the move needs the permission 'host_access': {'; '.join(reasons)}"


def _exists(connection: libvirt.virConnect, path: str) -> bool:
    return os.path.exists(path) or volumes.place(connection, path) is not None


def _room(connection: libvirt.virConnect, copies: t.Iterable[Copy]) -> t.Iterator[str]:
    """libvirt makes the file of a disk that is copied, in the pool that has its folder."""
    needed: dict[str, int] = {}
    for one in copies:
        needed[os.path.dirname(one.path)] = needed.get(os.path.dirname(one.path), 0) + one.capacity
    for folder, size in needed.items():
        try:
            pool = connection.storagePoolLookupByTargetPath(folder)
        except libvirt.libvirtError:
            yield f"no active storage pool here has the folder {folder}, so no disk can be copied into it"
            continue
        left = pool.info()[3]
        if size > left:
            found, wanted = describe.size(left >> 10), describe.size(size >> 10)
            yield f"the storage pool '{pool.name()}' has {found} left here, and the disks to copy need up to {wanted}"
