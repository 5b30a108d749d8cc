# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""How domains stand: what an entity shows, and what is compared after a time in which no event came.

The functions run in Libvirt.call().
"""

from __future__ import annotations

import hashlib
import re
import typing as t

from archipel_protocol import states

from .libvirt_facade import libvirt

# Tags and other marks; a change there changes nothing about the machine.
_METADATA = re.compile(r"<metadata>.*</metadata>", re.DOTALL)


class Standing(t.NamedTuple):
    """How a domain stands: ``state`` is virDomainState (archipel_protocol.states), ``reason`` depends on it.

    ``definition`` is a digest of the persistent definition, without its metadata; "" without one, None: nobody looked.
    """

    name: str
    state: int
    reason: int
    definition: str | None = None

    @property
    def crashed(self) -> bool:
        """Whether it is off because its process died."""
        return self.state == states.SHUTOFF and self.reason == libvirt.VIR_DOMAIN_SHUTOFF_CRASHED

    @property
    def starting(self) -> bool:
        """Whether it is being started; QEMU is there before its processors go on."""
        return self.state == states.PAUSED and self.reason == libvirt.VIR_DOMAIN_PAUSED_STARTING_UP


def standings(connection: libvirt.virConnect) -> dict[str, Standing]:
    """Every domain, by UUID."""
    found = {}
    for domain in connection.listAllDomains():
        try:
            found[domain.UUIDString()] = Standing(domain.name(), *domain.state(), _definition(domain))
        except libvirt.libvirtError as fault:
            # Undefined between the listing and the look at it.
            if fault.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                raise
    return found


def standing(connection: libvirt.virConnect, uuid: str) -> Standing:
    """One domain, without a look at its definition; libvirt raises VIR_ERR_NO_DOMAIN where there is none."""
    domain = connection.lookupByUUIDString(uuid)
    return Standing(domain.name(), *domain.state())


def full_standing(connection: libvirt.virConnect, uuid: str) -> Standing:
    """One domain, its definition, too."""
    domain = connection.lookupByUUIDString(uuid)
    return Standing(domain.name(), *domain.state(), _definition(domain))


def _definition(domain: libvirt.virDomain) -> str:
    if not domain.isPersistent():
        return ""
    xml = _METADATA.sub("", domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
    return hashlib.sha256(xml.encode()).hexdigest()[:32]
