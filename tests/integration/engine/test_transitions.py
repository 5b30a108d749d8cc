# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every wanted state from every state in which libvirt's QEMU driver lets a guest stand.

Not to be had here: "shutting down" lasts as long as QEMU takes to end, "no state" and "blocked" are Xen's.
tests/unit/agent/test_plan.py has what is planned for them.
"""

from __future__ import annotations

import pytest

from archipel_protocol import states

pytestmark = pytest.mark.long

# Sleeps and panics when it is told so on its serial console (tests/lab/archipel_lab/guest_files/init). With a panic
# device, libvirt hears of the latter; on_crash keeps what is left. On q35 it hears no power button after it slept.
GUEST = (
    "<domain type='qemu'><memory unit='MiB'>128</memory><os><type arch='x86_64' machine='pc'>hvm</type>"
    "<kernel>/vm/guest/vmlinuz</kernel><initrd>/vm/guest/initrd</initrd>"
    "<cmdline>edd=off console=ttyS0 console=tty0</cmdline></os><features><acpi/></features>"
    "<on_crash>preserve</on_crash><pm><suspend-to-mem enabled='yes'/></pm>"
    "<devices><serial type='pty'/><panic model='isa'/></devices></domain>"
)
# Where a guest that hears the power button is asked to shut down, it does; a stopped or saved one has nothing to hear.
TABLE = {
    "stopped": {
        "present": [],
        "running": ["start"],
        "stopped": [],
        "paused": ["start paused"],
        "saved": None,
        "restarted": ["start"],
        "absent": ["undefine"],
    },
    "running": {
        "present": [],
        "running": [],
        "stopped": ["shut down"],
        "paused": ["pause"],
        "saved": ["save"],
        "restarted": ["shut down", "start"],
        "absent": ["power off", "undefine"],
    },
    "paused": {
        "present": [],
        "running": ["resume"],
        "stopped": ["resume", "shut down"],
        "paused": [],
        "saved": ["save"],
        "restarted": ["resume", "shut down", "start"],
        "absent": ["power off", "undefine"],
    },
    "saved": {
        "present": [],
        "running": ["start"],
        "stopped": ["start", "shut down"],
        "paused": ["start paused"],
        "saved": [],
        "restarted": ["start", "shut down", "start"],
        "absent": ["undefine"],
    },
    "pmsuspended": {
        "present": [],
        "running": ["wake up"],
        "stopped": ["wake up", "shut down"],
        "paused": ["wake up", "pause"],
        "saved": ["wake up", "save"],
        "restarted": ["wake up", "shut down", "start"],
        "absent": ["power off", "undefine"],
    },
    "crashed": {
        "present": [],
        "running": ["power off", "start"],
        "stopped": ["power off"],
        "paused": ["power off", "start paused"],
        "saved": None,
        "restarted": ["power off", "start"],
        "absent": ["power off", "undefine"],
    },
}
WORDS = {"pmsuspended": ("suspend", states.PMSUSPENDED), "crashed": ("crash", states.CRASHED)}
BOOT = 120.0  # seconds


def tell(connection, uuid, word):
    """Wait until the guest lives, and type a word on its console, until it is read; nothing if ``word`` is empty."""
    stream = connection.newStream()
    connection.lookupByUUIDString(uuid).openConsole(None, stream, 0)
    try:
        seen = b""
        while b"heartbeat" not in seen:
            seen += stream.recv(4096)
        if word:
            stream.send(word.encode() + b"\r")
            seen = b""
            while word.encode() not in seen:
                seen += stream.recv(4096)
    finally:
        stream.abort()


def bring(hypervisor, run, machine, state):
    """The guest into ``state``."""
    libvirt = hypervisor.agent.libvirt
    if state == "stopped":
        run(hypervisor.one("apply", **machine, domain=GUEST, state="stopped"))
        return
    run(hypervisor.one("apply", **machine, domain=GUEST, state="running"))
    word, reached = WORDS.get(state, ("", states.RUNNING))
    run(libvirt.call(tell, machine["uuid"], word, timeout=BOOT))
    run(libvirt.wait_for_state(machine["uuid"], lambda now: now == reached, BOOT))
    if state in ("paused", "saved"):
        run(hypervisor.one("apply", **machine, state=state))


def state_of(hypervisor, run, machine):
    found = run(hypervisor.ask("inventory", {"uuids": [machine["uuid"]]}))["vms"]
    return found[0]["state"] if found else "absent"


@pytest.mark.parametrize("wanted", ["present", "running", "stopped", "paused", "saved", "restarted", "absent"])
@pytest.mark.parametrize("state", TABLE)
def test_transition(hypervisor, run, machine, state, wanted):
    bring(hypervisor, run, machine, state)
    assert state_of(hypervisor, run, machine) == state
    stated = {**machine, "state": wanted, "force": wanted == "absent", "shutdown_timeout": BOOT, "wait_timeout": BOOT}
    actions = TABLE[state][wanted]
    planned = run(hypervisor.plan(**stated))
    assert state_of(hypervisor, run, machine) == state
    done = run(hypervisor.one("apply", **stated))
    if actions is None:
        assert planned == done
        assert done["error"].endswith(f"is {state}; only a guest that runs can be saved")
        assert state_of(hypervisor, run, machine) == state
        return
    assert (planned.get("actions", []), done.get("actions", [])) == (actions, actions), (planned, done)
    reached = {"present": state, "restarted": "running"}.get(wanted, wanted)
    assert state_of(hypervisor, run, machine) == reached
    if wanted != "restarted":
        assert run(hypervisor.one("apply", **stated)) == {"uuid": machine["uuid"]}
