# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines of libvirt's test driver, kept as long as this runs on the hypervisor: machines.py FOLDER RATE EVENTS

FOLDER/uuids names them. With SIGUSR1 they are suspended and resumed in turn, RATE a second; FOLDER/events tells when a
listener in this process heard of each: "<seconds since 1970> <uuid> <virDomainEventType>".
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from pathlib import Path

import libvirt

URI = "test+unix:///default"
_DOMAIN = (
    "<domain type='test'><name>bench-{0}</name><uuid>{1}</uuid><memory>8192</memory><vcpu>1</vcpu>"
    "<os><type>hvm</type></os></domain>"
)


def run_events() -> None:
    while True:
        libvirt.virEventRunDefaultImpl()


def main(folder: Path, rate: int, events: int) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    libvirt.virEventRegisterDefaultImpl()
    connection = libvirt.open(URI)
    uuids = (folder / "uuids").read_text().split()
    domains = [connection.defineXML(_DOMAIN.format(number, uuid)) for number, uuid in enumerate(uuids)]
    for domain in domains:
        domain.create()
    threading.Thread(target=run_events, daemon=True).start()
    (folder / "ready").touch()
    signal.sigwait({signal.SIGUSR1})
    heard: list[str] = []
    connection.domainEventRegisterAny(
        None,
        libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE,
        lambda connection, domain, event, *rest: heard.append(f"{time.time()} {domain.UUIDString()} {event}\n"),
        None,
    )
    begin = time.monotonic()
    for number in range(events):
        time.sleep(max(0.0, begin + number / rate - time.monotonic()))
        domain = domains[number % len(domains)]
        (domain.suspend, domain.resume)[number // len(domains) % 2]()
    time.sleep(1)
    (folder / "events.new").write_text("".join(heard))
    (folder / "events.new").rename(folder / "events")
    signal.pause()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
