# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Addresses of the platform's entities.

A hypervisor is ``<node>@<domain>/<node>``; a virtual machine is ``<libvirt uuid>@<domain>/<hypervisor's node>``.
Every full JID follows from names alone, so nobody waits for a presence to learn where to send a request.
"""

from __future__ import annotations

import re
import uuid as uuidlib

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
# The localpart rules of RFC 7622 are wider; a hypervisor's node is also a host name (RFC 1123).
_NODE = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\Z")
_ACCOUNT = re.compile(r"[^\s@/\"&'<>:]+@[^\s@/\"&'<>:]+\Z")
# Names of virtual machines derive their UUID below this one, so that the same declaration is the same machine.
_VM_NAMES = uuidlib.UUID("1ad53f2f-5b06-5d4e-9d1c-4d4f4b0a6f39")


def bare(jid: str) -> str:
    """``user@domain`` of any JID, in lower case."""
    return jid.partition("/")[0].lower()


def node(jid: str) -> str:
    """The localpart of a JID, in lower case; empty for a domain."""
    address = bare(jid)
    return address.partition("@")[0] if "@" in address else ""


def domain(jid: str) -> str:
    """The domain of a JID, in lower case."""
    return bare(jid).rpartition("@")[2]


def resource(jid: str) -> str:
    """The resource of a full JID; empty for a bare one."""
    return jid.partition("/")[2]


def is_uuid(text: str) -> bool:
    """Whether ``text`` is a UUID in libvirt's form: lower case, with dashes."""
    return _UUID.match(text) is not None


def is_hypervisor_node(text: str) -> bool:
    """Whether ``text`` may name a hypervisor: a host name that no UUID can be mistaken for."""
    return _NODE.match(text) is not None and not is_uuid(text)


def is_account(text: str) -> bool:
    """Whether ``text`` is the bare JID of an account, in lower case."""
    return _ACCOUNT.match(text) is not None and text == text.lower()


def hypervisor_jid(hypervisor: str, xmpp_domain: str) -> str:
    """The full JID of a hypervisor given its node."""
    return f"{hypervisor}@{xmpp_domain}/{hypervisor}"


def vm_jid(uuid: str, xmpp_domain: str, hypervisor: str = "") -> str:
    """The JID of a virtual machine: full if ``hypervisor`` (a node) is given, else bare."""
    address = f"{uuid}@{xmpp_domain}"
    return f"{address}/{hypervisor}" if hypervisor else address


def vm_uuid(name: str, xmpp_domain: str) -> str:
    """The UUID of a virtual machine that is declared without one (RFC 9562, version 5)."""
    return str(uuidlib.uuid5(_VM_NAMES, f"{xmpp_domain}/{name}"))


def vm_mac(uuid: str, index: int) -> str:
    """The MAC address of interface number ``index`` of a virtual machine that is declared without one.

    It is in 52:54:00, the range QEMU uses for its guests.
    """
    digest = uuidlib.uuid5(uuidlib.UUID(uuid), f"interface/{index}").bytes
    return f"52:54:00:{digest[0]:02x}:{digest[1]:02x}:{digest[2]:02x}"
