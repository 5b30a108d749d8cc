# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Asking the agents of other hypervisors, and how far they are believed: the configuration says who and where they are.

A peer is believed what its own libvirt has, where a machine is on its way there, and nothing else.
"""

from __future__ import annotations

import asyncio
import typing as t
import urllib.parse

from archipel_protocol import declaration as wire, errors, jids, namespaces as ns, payloads, states

from . import xmpp

if t.TYPE_CHECKING:
    from .agent import Agent
    from .config import Peer

# What is asked: handover.py, claims.py, making.py, in_use.py.
QUERY = "query"
OFFER = "offer"
CLAIM = "claim"
MAKE = "make"
USE = "use"

# Seconds that a machine has to log in.
LOGIN = 20.0
# Seconds for a connection to a peer's libvirt, and for its agent's answers: one that dies answers nothing.
_REACH = 5.0
_ANSWER = 10.0
# All machines and volumes of a host are looked at for a USE.
_ANSWERS = {OFFER: LOGIN + 5.0, USE: 30.0}
# libvirt's port for TLS (https://libvirt.org/uri.html).
_TLS_PORT = 16514


async def ask(agent: Agent, peer: Peer, action: str, content: dict[str, t.Any]) -> dict[str, t.Any]:
    """What a peer answers to a request of archipel:handover; raises ArchipelError."""
    session = agent.hypervisor.session
    if session is None:
        raise xmpp.Unreachable(f"{agent.node} is not connected to the XMPP server")
    query = payloads.request(ns.HANDOVER, action, text=wire.encode(content))
    try:
        answer = await session.request(
            jids.hypervisor_jid(peer.node, agent.domain), query, timeout=_ANSWERS.get(action, _ANSWER)
        )
    except xmpp.Unreachable as fault:
        raise xmpp.Unreachable(f"hypervisor {peer.node}'s agent is offline ({fault.message})") from None
    except errors.PermissionDenied:
        message = f"hypervisor {peer.node} does not know {agent.node} as a peer"
        raise errors.ArchipelError(message, errors.CODE_HANDOVER) from None
    return wire.decode(answer.text if answer is not None else None)


def state_of(answer: dict[str, t.Any], peer: Peer) -> int | None:
    """The virDomainState that a peer tells of; None: it has no such domain. Raises ArchipelError."""
    state = answer.get("state", "")
    if state is None or (isinstance(state, int) and state in states.NAMES):
        return state
    raise errors.ArchipelError(f"{peer.node} answers what is no state of a domain", errors.CODE_HANDOVER)


def texts(answer: dict[str, t.Any], key: str) -> list[str]:
    """What of a peer's list is text."""
    found = answer.get(key)
    return [one for one in found if isinstance(one, str)] if isinstance(found, list) else []


async def unreachable(peer: Peer) -> str:
    """Why this host cannot reach the peer's libvirt, which its own libvirt is to talk to; "" where it can."""
    address = urllib.parse.urlsplit(peer.uri)
    if not address.scheme.endswith("+tls"):
        return ""
    port = address.port or _TLS_PORT
    try:
        dummy, writer = await asyncio.wait_for(asyncio.open_connection(address.hostname, port), _REACH)
    except (OSError, asyncio.TimeoutError) as fault:
        return f"libvirt on {peer.node} is out of reach at {address.hostname}:{port} ({fault or 'no answer'})"
    writer.close()
    return ""
