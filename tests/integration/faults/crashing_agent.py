# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent as it is installed, killed after a chosen one of its durable steps.

A durable step is what another process sees and a restart does not undo: a change of one of the agent's databases, a
call of libvirt that changes something, a request that the XMPP server or a peer has answered. Each one's name goes to
faults-steps. faults-armed holds a number: after that many steps the process kills itself, as `kill -9` would, before
it can take the next one. Without that file nothing is counted.
"""

from __future__ import annotations

import os
import pathlib
import re
import runpy
import signal
import sqlite3
import sys
import threading
import typing as t

STATE = pathlib.Path("/var/lib/archipel")
ARMED = STATE / "faults-armed"
STEPS = STATE / "faults-steps"

_CHANGES = re.compile(r"\s*(INSERT|UPDATE|DELETE|REPLACE|COMMIT)\b", re.IGNORECASE)
# Methods of libvirt's Python binding that change something, by how their names begin.
_MUTATING = re.compile(
    r"(create|define|undefine|destroy|delete|migrateTo|set(?!KeepAlive)|suspend|resume|shutdown|reboot)"
)
_MUTATING_ALSO = re.compile(r"(attach|detach|update|resize|managedSave|restore|pMWakeup|reset)")

_lock = threading.Lock()


def step(name: str) -> None:
    """Counts a step that was taken."""
    with _lock:
        try:
            left = int(ARMED.read_text())
        except FileNotFoundError:
            return
        with STEPS.open("a") as file:
            file.write(name + "\n")
        if left == 1:
            ARMED.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        ARMED.write_text(str(left - 1))


class Database(sqlite3.Connection):
    """Counts what is written."""

    def execute(self, text: str, *values: t.Any) -> sqlite3.Cursor:
        cursor = super().execute(text, *values)
        if not self.in_transaction and _CHANGES.match(text):
            step("store: " + " ".join(text.split())[:60])
        return cursor


def count_writes() -> None:
    """sqlite3.connect() makes a Database."""
    connect = sqlite3.connect
    sqlite3.connect = lambda *args, **options: connect(*args, factory=Database, **options)


def count_calls_of_libvirt() -> None:
    """Each method that changes something is a step."""
    import libvirt

    for kind in (libvirt.virConnect, libvirt.virDomain, libvirt.virStoragePool, libvirt.virStorageVol):
        for name in [one for one in vars(kind) if _MUTATING.match(one) or _MUTATING_ALSO.match(one)]:
            setattr(kind, name, _counted(getattr(kind, name), f"libvirt: {kind.__name__}.{name}"))


def _counted(method: t.Callable[..., t.Any], name: str) -> t.Callable[..., t.Any]:
    def call(*args: t.Any, **options: t.Any) -> t.Any:
        result = method(*args, **options)
        step(name)
        return result

    # libvirt_facade names a call that takes too long.
    call.__name__ = method.__name__
    return call


def count_requests() -> None:
    """Each request of the agent's that changes something and was answered is a step."""
    from archipel_agent.xmpp import Session

    request, remove_account = Session.request, Session.remove_account

    async def counted(self: Session, to: str, payload: t.Any, kind: str = "set", **options: t.Any) -> t.Any:
        answer = await request(self, to, payload, kind=kind, **options)
        if kind == "set":
            step(f"xmpp: {payload.tag.partition('}')[0].strip('{')} to {to}")
        return answer

    async def counted_removal(self: Session) -> None:
        # The server may end the session instead of answering.
        await remove_account(self)
        step("xmpp: account removed")

    Session.request = counted
    Session.remove_account = counted_removal


if __name__ == "__main__":
    sys.path.insert(0, "/usr/lib/archipel")
    count_writes()
    count_calls_of_libvirt()
    count_requests()
    sys.argv[0] = "archipel-agent"
    runpy.run_module("archipel_agent", run_name="__main__", alter_sys=True)
