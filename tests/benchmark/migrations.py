# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""A live migration by archipel_fleet's module beside one by virsh, in turns.

Both begin with the command and end with the guest on the other host and none left behind, for us also managed, logged
in and found as declared there. Both have the flags of migration_options.py: peer to peer, TLS, persistent there and
undefined here. What each takes to do nothing (Python, imports, login; virsh and its connection) is not counted.

Two guests that differ in name only, so that each move begins with a guest that has rested. Their memory is in use: one
without anything in it moves within libvirt's own handshakes, and is nobody's guest. Half a GiB that does not compress
is little for a real one; it is at rest, because how often QEMU goes over the memory of one that writes is chance. Both
are limited to what a network of 1 Gbit/s carries: else it is the two processors of all hosts that limit them, and one
move takes half as long again as the next.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
import tempfile
import time
import typing as t
import uuid
from pathlib import Path

import fleet
from converge import Run, environment_of
from fleet import Platform
from xmpp_stream import Refused

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 9
WANTED = 1.05
OURS, RAW = "bench-moving", "bench-moving-raw"
BANDWIDTH = 112  # MiB/s
# MiB of the file in the initrd: the kernel has it twice, packed and unpacked.
_CONTENT = 256
_GUEST = (
    "<domain type='qemu'><name>{name}</name><uuid>{uuid}</uuid><memory unit='MiB'>768</memory><vcpu>1</vcpu>"
    "<os><type arch='x86_64' machine='q35'>hvm</type><kernel>/vm/guest/vmlinuz</kernel>"
    "<initrd>/vm/guest/bench-initrd</initrd><cmdline>edd=off console=ttyS0</cmdline></os><features><acpi/></features>"
    "<devices><interface type='network'><source network='default'/><model type='virtio'/></interface>"
    "<serial type='file'><source path='/tmp/{name}.log'/></serial></devices></domain>"
)
# An initrd may be several archives, one after the other (Linux, driver-api/early-userspace/buffer-format).
_FILL = r"""
import os
size = {content} << 20
with open("/vm/guest/bench-initrd", "wb") as file:
    first = open("/vm/guest/initrd", "rb").read()
    file.write(first + bytes(-len(first) % 4))
    for name, mode, length in (("content", 0o100600, size), ("TRAILER!!!", 0, 0)):
        fields = (0, mode, 0, 0, 1, 0, length, 0, 0, 0, 0, len(name) + 1, 0)
        head = b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
        file.write(head + bytes(-len(head) % 4))
        for dummy in range(length >> 20):
            file.write(os.urandom(1 << 20))
""".format(content=_CONTENT)
_VIRSH = "runuser -u archipel -- virsh -q -c qemu:///system"
_MOVE = (
    f"migrate --live --p2p --tls --persistent --undefinesource --bandwidth {BANDWIDTH}"
    " {name} qemu+tls://{target}/system"
)
_TIMED = "begin=$(date +%s%N); {command} >/dev/null || exit; end=$(date +%s%N); echo $((end - begin))"


def rows(inventory: str) -> list[tuple[str, str, str]]:
    """The lines of the table: what, measured, compared with."""
    with tempfile.TemporaryDirectory() as directory:
        platform = Platform(inventory, Path(directory))
        names = {name: str(uuid.uuid4()) for name in (OURS, RAW)}
        try:
            _set_up(platform, names)
            raw, ours = _take_turns(platform)
        finally:
            _tear_down(platform, names)
    middle = [statistics.median(one) for one in (raw, ours)]
    spread = [f"{min(one):.2f} to {max(one):.2f} s" for one in (raw, ours)]
    return [
        ("live migration of 0.5 GiB in use, by virsh", f"{middle[0]:.2f} s", spread[0]),
        ("the same by archipel_fleet", f"{middle[1]:.2f} s", spread[1]),
        ("  compared with virsh", f"x {middle[1] / middle[0]:.3f}", f"x {WANTED}"),
    ]


def _take_turns(platform: Platform) -> tuple[list[float], list[float]]:
    """Seconds of each migration by virsh, and by us; the first there and back is for caches and connections."""
    environment = environment_of(platform)
    raw: list[float] = []
    ours: list[float] = []
    hosts = platform.hypervisors[:2]
    for turn in range(2 + ROUNDS):
        source, target = hosts if turn % 2 == 0 else hosts[::-1]
        moves: list[t.Callable[[], None]] = [
            lambda source=source, target=target: raw.append(_by_virsh(platform, source, target)),
            lambda target=target: ours.append(_by_us(environment, target)),
        ]
        # Who comes first finds the hosts as the other has left them.
        for move in moves if turn % 4 < 2 else moves[::-1]:
            move()
        print(f"virsh {raw[-1]:.2f} s, ours {ours[-1]:.2f} s", file=sys.stderr)
    return raw[2:], ours[2:]


def _by_virsh(platform: Platform, source: str, target: str) -> float:
    def seconds(command: str) -> float:
        return int(platform.run(source, _TIMED.format(command=f"{_VIRSH} {command}"))) / 1e9

    nothing = seconds(f"domstate {RAW}")
    return seconds(_MOVE.format(name=RAW, target=target)) - nothing


def _by_us(environment: dict[str, str], target: str) -> float:
    limit = {"bandwidth": f"{BANDWIDTH}MiB"}
    wanted = [{"name": OURS, "hypervisor": target, "state": "running", "migration": limit}]
    moved = Run(environment, vms=wanted)
    nothing = Run(environment, vms=wanted)
    if not moved.result["changed"] or nothing.result["changed"]:
        sys.exit(f"{OURS} has not moved to {target}, or not for good")
    return moved.seconds - nothing.seconds


def _set_up(platform: Platform, names: dict[str, str]) -> None:
    host = platform.hypervisors[0]
    platform.run(host, f"python3 - <<'EOF'\n{_FILL}\nEOF")
    for name, one in names.items():
        xml = _GUEST.format(name=name, uuid=one)
        platform.run(host, f"virsh -q define /dev/stdin <<'EOF'\n{xml}\nEOF\nvirsh -q start {name}")
    _manage(platform, host, names[OURS], "manage")
    with fleet.log_in(platform) as client:
        client.online([f"{names[OURS]}@{platform.domain}/{host}"])
    deadline = time.monotonic() + 300
    while not all("heartbeat" in platform.run(host, f"cat /tmp/{name}.log") for name in names):
        if time.monotonic() > deadline:
            sys.exit("the guests to migrate do not come up")
        time.sleep(1)


def _manage(platform: Platform, host: str, one: str, action: str) -> None:
    request = fleet.action("archipel:hypervisor:control", action, f"<item jid='{one}@{platform.domain}'/>")
    with fleet.log_in(platform) as client:
        client.ask_all([(f"{host}@{platform.domain}/{host}", request)])


def _tear_down(platform: Platform, names: dict[str, str]) -> None:
    for host in platform.hypervisors[:2]:
        for name, one in names.items():
            platform.run(host, f"virsh destroy {one}; virsh undefine {one}; rm -f /tmp/{name}.log", check=False)
        with contextlib.suppress(Refused):
            _manage(platform, host, names[OURS], "unmanage")
    platform.run(platform.hypervisors[0], "rm -f /vm/guest/bench-initrd")


if __name__ == "__main__":
    for row in rows(str(ROOT / "inventories" / "lab" / "hosts")):
        print(f"{row[0]:<78}{row[1]:>10}{row[2]:>18}", flush=True)
