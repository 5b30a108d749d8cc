# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a running virtual machine moves: the values of ``migrate``'s options, and what goes together."""

from __future__ import annotations

import typing as t

# The first is what is done where nothing is said.
TIMEOUT_ACTIONS = ("abort", "pause", "postcopy")
# libvirt's names of QEMU's methods (virsh migrate --comp-methods).
COMPRESSIONS = ("xbzrle", "mt", "zlib", "zstd")
# Those of one connection, and those of parallel ones.
_SINGLE = ("xbzrle", "mt")
MAX_CONNECTIONS = 255  # QEMU's multifd-channels is a byte
MAX_DOWNTIME = 2000000  # milliseconds; QEMU's own limit


class Migration(t.TypedDict, total=False):
    """What is stated of a migration; what is missing or None is libvirt's own choice."""

    bandwidth: int | None  # MiB/s
    downtime: int | None  # milliseconds that the guest may stand still at the end
    timeout: float | None  # seconds until timeout_action
    timeout_action: str | None  # TIMEOUT_ACTIONS
    auto_converge: bool | None
    compression: str | None  # COMPRESSIONS
    parallel_connections: int | None
    copy_storage: bool | None


def problems(stated: t.Mapping[str, t.Any]) -> t.Iterator[str]:
    """What is wrong with a Migration whose values have the right types; each begins with the option's name."""
    connections, method = stated.get("parallel_connections"), stated.get("compression")
    for option, most in (
        ("bandwidth", 1 << 20),
        ("downtime", MAX_DOWNTIME),
        ("parallel_connections", MAX_CONNECTIONS),
    ):
        value = stated.get(option)
        if value is not None and not 1 <= value <= most:
            yield f"{option}: {value} is not between 1 and {most}"
    if stated.get("timeout") is not None and stated["timeout"] <= 0:
        yield "timeout: must be more than 0 seconds"
    if stated.get("timeout") is None and stated.get("timeout_action") not in (None, TIMEOUT_ACTIONS[0]):
        yield f"timeout_action: {stated['timeout_action']} needs timeout, after which it is done"
    if method is not None and (method in _SINGLE) == (connections is not None):
        need = "works on one connection only; leave out" if method in _SINGLE else "needs"
        yield f"compression: {method} {need} parallel_connections"
    if connections is not None and stated.get("timeout_action") == "postcopy":
        yield "parallel_connections: QEMU has no post-copy over parallel connections"
