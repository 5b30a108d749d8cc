# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""A process that tells what libvirt would make of a definition, without touching the daemon.

``python3 -m archipel_agent.normaliser ROOT`` opens the embedded QEMU driver below ROOT
(https://libvirt.org/drvqemu.html#embedded-driver), defines what it is given, dumps it and undefines it there. The
driver is experimental and a process can open it once, hence a process of its own that may die without harm. It does
without lxml: that takes over how libxml2 opens files in its process, and crashes where libvirt has it open one.

One JSON object a line, on standard input and output. The first that it says is ``{"version": 9000000}`` or an error.
Then each request has one answer, an error being ``{"error": text, "code": number}``::

    {"call": "capabilities", "type": "qemu"}   {"xml": "<domainCapabilities/>"}
    {"call": "normalise", "xml": "<domain/>"}  {"xml": "<domain/>"}
"""

from __future__ import annotations

import json
import os
import sys
import threading
import typing as t

import libvirt

# Where the system's daemon keeps what the embedded driver keeps below its root.
_SYSTEM_STATE = "/var/lib/libvirt/qemu"
# A definition may name the NVRAM of a real machine: the files are kept, whoever this process runs as.
_UNDEFINE = libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM | getattr(libvirt, "VIR_DOMAIN_UNDEFINE_KEEP_TPM", 0)
_DUMP = libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE


def normalise(connection: libvirt.virConnect, root: str, xml: str) -> str:
    """The INACTIVE and SECURE dump of ``xml`` as the system's daemon would give it; leaves the domain to clear()."""
    dump = connection.defineXML(xml).XMLDesc(_DUMP)
    return dump.replace(os.path.join(root, "lib/qemu"), _SYSTEM_STATE)


def clear(connection: libvirt.virConnect) -> None:
    """Undefine what is defined here."""
    for domain in connection.listAllDomains():
        domain.undefineFlags(_UNDEFINE)


def answer(connection: libvirt.virConnect, root: str, request: dict[str, str]) -> dict[str, t.Any]:
    """The reply to one request."""
    try:
        if request["call"] == "normalise":
            return {"xml": normalise(connection, root, request["xml"])}
        return {"xml": connection.getDomainCapabilities(None, None, None, request["type"])}
    except libvirt.libvirtError as fault:
        return refusal(fault)


def refusal(fault: libvirt.libvirtError) -> dict[str, t.Any]:
    """libvirt's error as an answer."""
    return {"error": fault.get_error_message() or str(fault), "code": fault.get_error_code() or 0}


def serve(connection: libvirt.virConnect, root: str) -> None:
    """Answer requests until standard input ends."""
    # What a process left that died before it could.
    clear(connection)
    say({"version": connection.getLibVersion()})
    for line in sys.stdin:
        say(answer(connection, root, json.loads(line)))
        # Nobody has to wait for it. Where it fails, this process ends, and the next one tries again.
        clear(connection)


def say(message: dict[str, t.Any]) -> None:
    """Write one line."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def run_events() -> None:
    """libvirt's event loop, which the driver needs."""
    while True:
        libvirt.virEventRunDefaultImpl()


def main(root: str) -> None:
    """Open the driver below ``root`` and serve."""
    # libvirt would print errors, with parts of definitions in them; each comes as an exception anyway.
    libvirt.registerErrorHandler(lambda context, fault: None, None)
    libvirt.virEventRegisterDefaultImpl()
    threading.Thread(target=run_events, daemon=True).start()
    try:
        serve(libvirt.open(f"qemu:///embed?root={root}"), root)
    except libvirt.libvirtError as fault:
        say(refusal(fault))


if __name__ == "__main__":
    main(os.path.abspath(sys.argv[1]))
