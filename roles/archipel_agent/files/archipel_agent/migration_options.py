# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options of a migration in libvirt's terms (https://libvirt.org/html/libvirt-libvirt-domain.html).

Functions that take a connection run in threads.
"""

from __future__ import annotations

import typing as t

from .libvirt_facade import libvirt
from .wanted import Migration

# Never VIR_MIGRATE_UNSAFE: libvirt knows better than we do whether the disks are shared.
_ALWAYS = (
    libvirt.VIR_MIGRATE_PEER2PEER
    | libvirt.VIR_MIGRATE_TLS
    | libvirt.VIR_MIGRATE_PERSIST_DEST
    | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE
)


def flags(stated: Migration, active: bool, copies: t.Collection[str]) -> int:
    """virDomainMigrateFlags; ``copies`` are the targets of the disks that are copied."""
    if not active:
        return _ALWAYS | libvirt.VIR_MIGRATE_OFFLINE
    found = _ALWAYS | libvirt.VIR_MIGRATE_LIVE
    for wanted, flag in (
        (stated.auto_converge, libvirt.VIR_MIGRATE_AUTO_CONVERGE),
        (stated.compression, libvirt.VIR_MIGRATE_COMPRESSED),
        (stated.parallel_connections, libvirt.VIR_MIGRATE_PARALLEL),
        (stated.timeout_action == POST_COPY, libvirt.VIR_MIGRATE_POSTCOPY),
        (copies, libvirt.VIR_MIGRATE_NON_SHARED_DISK),
    ):
        if wanted:
            found |= flag
    return found


def parameters(stated: Migration, active: bool, copies: t.Collection[str]) -> dict[str, t.Any]:
    """Typed parameters of virDomainMigrateToURI3."""
    if not active:
        return {}
    found = {
        libvirt.VIR_MIGRATE_PARAM_BANDWIDTH: stated.bandwidth,
        libvirt.VIR_MIGRATE_PARAM_COMPRESSION: stated.compression,
        libvirt.VIR_MIGRATE_PARAM_PARALLEL_CONNECTIONS: stated.parallel_connections,
        libvirt.VIR_MIGRATE_PARAM_MIGRATE_DISKS: sorted(copies),
    }
    return {name: value for name, value in found.items() if value}


def migrate(
    connection: libvirt.virConnect, uuid: str, uri: str, active: bool, stated: Migration, copies: t.Collection[str]
) -> None:
    """virDomainMigrateToURI3; from daemon to daemon, so it goes on if this process dies."""
    domain = connection.lookupByUUIDString(uuid)
    if active and stated.downtime is not None:
        domain.migrateSetMaxDowntime(stated.downtime)  # there is no typed parameter for it
    domain.migrateToURI3(uri, parameters(stated, active, copies), flags(stated, active, copies))


def abort(connection: libvirt.virConnect, uuid: str) -> None:
    """The guest goes on where it is."""
    connection.lookupByUUIDString(uuid).abortJob()


def pause(connection: libvirt.virConnect, uuid: str) -> None:
    """A guest that stands still changes no more memory; libvirt resumes it when it has moved, or has not."""
    connection.lookupByUUIDString(uuid).suspend()


def post_copy(connection: libvirt.virConnect, uuid: str) -> None:
    """The guest goes on over there, and what is missing follows; from here on there is no way back."""
    connection.lookupByUUIDString(uuid).migrateStartPostCopy()


ABORT = "abort"
POST_COPY = "postcopy"
TIMEOUT = {ABORT: abort, "pause": pause, POST_COPY: post_copy}
