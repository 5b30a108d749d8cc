# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Holds a connection to libvirt open on a hypervisor, and notes when domains start: watcher.py URI FILE

A line of FILE is "<seconds since 1970> <name>". With `watcher.py URI raw PREFIX COUNT FILE` it defines and starts COUNT
domains of FILE, one after the other as a script would, prints the seconds that took, and removes them again.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import libvirt


def raw(uri: str, prefix: str, count: int, template: str) -> None:
    connection = libvirt.open(uri)
    definition = Path(template).read_text()
    begin = time.monotonic()
    domains = [connection.defineXML(definition.replace("@NAME@", f"{prefix}{number}")) for number in range(count)]
    for domain in domains:
        domain.create()
    print(time.monotonic() - begin)
    for domain in domains:
        domain.destroy()
        domain.undefine()


def main(uri: str, path: str) -> None:
    libvirt.virEventRegisterDefaultImpl()
    connection = libvirt.open(uri)
    with Path(path).open("a", buffering=1) as notes:

        def note(connection: object, domain: libvirt.virDomain, event: int, detail: int, opaque: object) -> None:
            if event == libvirt.VIR_DOMAIN_EVENT_STARTED:
                notes.write(f"{time.time()} {domain.name()}\n")

        connection.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, note, None)
        notes.write("0 ready\n")
        while True:
            libvirt.virEventRunDefaultImpl()


if __name__ == "__main__":
    if sys.argv[2] == "raw":
        raw(sys.argv[1], sys.argv[3], int(sys.argv[4]), sys.argv[5])
    else:
        main(sys.argv[1], sys.argv[2])
