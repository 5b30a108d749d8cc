# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""archipel:handover make: no two hypervisors make one machine.

Two may ask two hypervisors for the same new machine at the same moment, and no hypervisor sees what another one is
about to do. So each asks all its peers first, and makes nothing while one of them is silent. Of two that ask each
other, the one whose node comes first makes it; the other one waits for what becomes of that. An agent without peers
has the server settle it, which costs more: it gives the machine's account to one hypervisor only.
"""

from __future__ import annotations

import asyncio
import contextlib
import typing as t

from archipel_protocol import declaration as wire, errors, jids, namespaces as ns

from . import permissions
from .dispatch import Reply, Request, handler
from .peers import CLAIM, LOGIN, MAKE, ask, texts

if t.TYPE_CHECKING:
    from .agent import Agent
    from .config import Peer
    from .hypervisor import HypervisorEntity

# Machines of one question; more follow in the next.
MOST = 1000


@handler(ns.HANDOVER, MAKE, permissions.PEER, on="hypervisor", code=errors.CODE_HANDOVER)
async def make(entity: HypervisorEntity, request: Request) -> Reply:
    """{"uuids": [str]} -> {"taken": [str]}: the sender is about to make these; which it is not to."""
    uuids = wire.decode(request.text).get("uuids")
    if not isinstance(uuids, list) or len(uuids) > MOST or not all(map(_is_uuid, uuids)):
        raise errors.MalformedRequest(f"make needs 'uuids', a list of at most {MOST} UUIDs in lower case")
    peer = jids.node(request.sender)
    return wire.encode({"taken": [uuid for uuid in uuids if entity.agent.making.is_taken(uuid, peer)]})


class Making:
    """The machines that are about to be made by one agent."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        # While a machine is not settled, by UUID: the nodes of peers that make it, or may, having been told so here.
        self._rivals: dict[str, set[str]] = {}
        self._lines: dict[str, _Line] = {}  # by the peer's node

    def is_taken(self, uuid: str, peer: str) -> bool:
        """Whether ``peer`` is not to make it. It comes first where its node does, and nothing is settled here."""
        if not self._agent.is_managed(uuid):
            return False
        rivals = self._rivals.get(uuid)
        if rivals is None or peer > self._agent.node:
            return True
        rivals.add(peer)
        return False

    async def secure(self, uuid: str, lost: t.Container[str]) -> None:
        """Returns when a machine that is about to be made here, and managed already, is made nowhere else.

        The silence of a peer that is ``lost`` does not count. Raises ArchipelError where another one makes it or
        manages it, or where that cannot be known.
        """
        peers = {peer.node: peer for peer in self._agent.config.peers.values()}
        if not peers:
            return await self._secure_account(uuid)
        rivals = self._rivals[uuid] = set()
        try:
            asked = (self._ask(peer, uuid) for peer in peers.values())
            answers = dict(zip(peers, await asyncio.gather(*asked, return_exceptions=True)))
            for node, answer in answers.items():
                if isinstance(answer, BaseException) and node not in lost:
                    message = f"{node}, which may have it, does not say so: {answer}; nothing was done here"
                    raise errors.ArchipelError(message, errors.CODE_DECLARATION)
            rivals.update(node for node, taken in answers.items() if taken is True)
            # Who waits for a rival waits for one that comes first, or that has nobody to wait for: never in a circle.
            while rivals:
                await self._await(uuid, rivals.pop())
        finally:
            del self._rivals[uuid]

    async def _secure_account(self, uuid: str) -> None:
        """Returns when the machine's account is its own; who else could have it cannot be asked."""
        vm = self._agent.vms[uuid]
        try:
            await asyncio.wait_for(vm.know_account(), LOGIN)
        except asyncio.TimeoutError:
            message = f"its account was not made on the XMPP server within {LOGIN:g} s, so it is not made either"
            raise errors.ArchipelError(message, errors.CODE_DECLARATION) from None
        if vm.foreign:
            message = (
                f"the account {vm.bare} exists, so another hypervisor may have it; where none has, remove the account"
            )
            raise errors.ArchipelError(message, errors.CODE_DECLARATION)

    async def _await(self, uuid: str, node: str) -> None:
        """Returns when a peer that makes or manages it has given it up: it could not make it, or has it no more."""
        peer = next((one for one in self._agent.config.peers.values() if one.node == node), None)
        answer = {}
        if peer is not None:
            with contextlib.suppress(errors.ArchipelError):
                answer = await ask(self._agent, peer, CLAIM, {"uuid": uuid, "active": False})
        if answer.get("managed") is not False:
            message = f"{node} makes it at this moment, or has it; nothing was done here"
            raise errors.ArchipelError(message, errors.CODE_DECLARATION)

    def _ask(self, peer: Peer, uuid: str) -> asyncio.Future[bool]:
        """Whether a peer has it taken; an ArchipelError where it does not say."""
        line = self._lines.setdefault(peer.node, _Line(self._agent))
        return line.ask(peer, uuid)


class _Line:
    """The questions to one peer: one is on its way, and what is to be asked meanwhile goes with the next."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._waiting: dict[str, asyncio.Future[bool]] = {}  # by UUID
        self._task: asyncio.Task[None] | None = None

    def ask(self, peer: Peer, uuid: str) -> asyncio.Future[bool]:
        """Whether the machine is taken."""
        answer = self._waiting[uuid] = asyncio.get_running_loop().create_future()
        if self._task is None or self._task.done():
            self._task = self._agent.spawn(self._send(peer), f"questions to {peer.node}")
        return answer

    async def _send(self, peer: Peer) -> None:
        while self._waiting:
            uuids = list(self._waiting)[:MOST]
            asked = {uuid: self._waiting.pop(uuid) for uuid in uuids}
            try:
                answer = await ask(self._agent, peer, MAKE, {"uuids": uuids})
                if not isinstance(answer.get("taken"), list):
                    raise errors.ArchipelError(f"{peer.node} does not say which machines are taken")
                taken = frozenset(texts(answer, "taken"))
                for uuid, future in asked.items():
                    if not future.done():
                        future.set_result(uuid in taken)
            except errors.ArchipelError as fault:
                for future in asked.values():
                    if not future.done():
                        future.set_exception(fault)
            finally:
                for future in asked.values():
                    future.cancel()


def _is_uuid(value: object) -> bool:
    return isinstance(value, str) and jids.is_uuid(value)
