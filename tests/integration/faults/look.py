# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prints, as JSON, what a hypervisor's libvirt and the databases of its agent hold. Runs there, as root."""

from __future__ import annotations

import json
import sqlite3

import libvirt

libvirt.registerErrorHandler(lambda context, fault: None, None)
domains = {}
for domain in libvirt.openReadOnly("qemu:///system").listAllDomains():
    try:
        domains[domain.UUIDString()] = [domain.name(), domain.state()[0]]
    except libvirt.libvirtError:
        continue  # it went meanwhile
store = sqlite3.connect("file:/var/lib/archipel/hypervisor.sqlite3?mode=ro", uri=True)
rows = {
    jid.partition("@")[0]: [name, settled]
    for jid, name, settled in store.execute(
        "SELECT jid, name, handover_to IS NULL AND next_password IS NULL AND NOT releasing FROM virtualmachines"
    )
}
print(json.dumps({"domains": domains, "rows": rows}))
