# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What running machines were started with, as far as libvirt tells it dearly: functions that run in Libvirt.call()."""

from __future__ import annotations

import sys
import weakref

from . import domain_xml
from .libvirt_facade import libvirt

_DUMP = libvirt.VIR_DOMAIN_XML_SECURE | libvirt.VIR_DOMAIN_XML_MIGRATABLE
# Of each connection, by UUID: (number of the domain, <cpu/>).
_processors: weakref.WeakKeyDictionary[libvirt.virConnect, dict[str, tuple[int, str]]] = weakref.WeakKeyDictionary()


def processor(domain: libvirt.virDomain) -> str:
    """The <cpu/> of a running domain as it was stated when it started; empty if none was.

    For such a dump libvirt looks at each device anew, which takes it as long as all the rest of a look at the domain.
    So each start is asked for once: it gives the domain another number, for as long as the daemon lives, and so the
    connection.
    """
    known = _processors.setdefault(domain.connect(), {})
    uuid, number = domain.UUIDString(), domain.ID()
    if known.get(uuid, (-1, ""))[0] != number:
        found = domain_xml.parse_domain(domain.XMLDesc(_DUMP)).find("cpu")
        # Many machines have the same.
        known[uuid] = (number, "" if found is None else sys.intern(domain_xml.serialise(found)))
    return known[uuid][1]
