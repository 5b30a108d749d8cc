# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""States of a virtual machine: libvirt's numbers, their names here, and the presence that shows them.

Source of the numbers: virDomainState, https://libvirt.org/html/libvirt-libvirt-domain.html
"""

from __future__ import annotations

NOSTATE = 0
RUNNING = 1
BLOCKED = 2
PAUSED = 3
SHUTDOWN = 4
SHUTOFF = 5
CRASHED = 6
PMSUSPENDED = 7
# Ours, not libvirt's: off, with the guest's memory in a file that the next start goes on from (managed save).
SAVED = 8

NAMES = {
    NOSTATE: "unknown",
    RUNNING: "running",
    BLOCKED: "running",
    PAUSED: "paused",
    SHUTDOWN: "shutting_down",
    SHUTOFF: "stopped",
    CRASHED: "crashed",
    PMSUSPENDED: "pmsuspended",
    SAVED: "saved",
}

# States in which a process of the hypervisor holds the machine's memory.
ACTIVE = frozenset((RUNNING, BLOCKED, PAUSED, SHUTDOWN, CRASHED, PMSUSPENDED))

# What can be asked for in a declaration.
DESIRED = ("present", "running", "stopped", "paused", "saved", "restarted", "absent")
# Those of them in which a guest runs, whatever was before.
UP = ("running", "restarted")
# How far a guest has come up when it counts as running: it runs; its guest agent is connected; an address is known.
WAIT_FOR = ("state", "guest_agent", "address")
# Which disks go with a machine that goes.
REMOVE_DISKS = ("none", "owned")
# What becomes of a change of a machine that runs: what can be is done at once; all of it, or nothing; none of it.
APPLY = ("auto", "live", "next_boot")

# (show, status) of Archipel's presences; show "" is plain available (RFC 6121, 4.7.2).
PRESENCE = {
    NOSTATE: ("", "Running"),
    RUNNING: ("", "Running"),
    BLOCKED: ("", "Running"),
    PAUSED: ("away", "Paused"),
    SHUTDOWN: ("", "Shutting down..."),
    SHUTOFF: ("xa", "Off"),
    CRASHED: ("xa", "Crashed"),
    PMSUSPENDED: ("away", "Suspended"),
}
NOT_DEFINED = ("xa", "Not defined")
LIBVIRT_LOST = ("dnd", "Libvirt connection lost")
