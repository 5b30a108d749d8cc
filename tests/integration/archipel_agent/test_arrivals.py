# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which machines a hypervisor takes over from a peer, and gives up to one, with libvirt's test driver."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid as uuidlib
from xml.etree import ElementTree as ET

import pytest

libvirt = pytest.importorskip("libvirt")

from archipel_agent import claims, dispatch, handover, making  # noqa: E402 - they import libvirt
from archipel_agent.libvirt_facade import Libvirt  # noqa: E402 - as above
from archipel_agent.permissions import Permissions  # noqa: E402 - as above
from archipel_agent.store import Store  # noqa: E402 - as above
from archipel_protocol import errors, namespaces as ns, payloads  # noqa: E402 - as above

XML = "<domain type='test'><name>{0}</name><uuid>{0}</uuid><memory>8192</memory><os><type>hvm</type></os></domain>"
HV2, HV3 = "hv2@example.org/hv2", "hv3@example.org/hv3"


class Machine:
    """A managed machine that is logged in."""

    foreign = leaving = False

    def __init__(self, agent, name):
        self.agent, self.name, self.reclaimed = agent, name, False
        self.online = asyncio.Event()
        self.online.set()

    def reclaim(self):
        self.reclaimed = True


class Agent:
    """As much of an agent as it takes; ``taken`` and ``released`` tell what it was made to do."""

    node, domain, kind, jid = "hv1", "example.org", "hypervisor", "hv1@example.org/hv1"

    def __init__(self, path):
        self.agent = self
        self.libvirt = Libvirt("test:///default")
        self.store = Store(path / "hypervisor.sqlite3")
        self.permissions = Permissions(peers=frozenset(["hv2@example.org", "hv3@example.org"]))
        self.vms, self.taken, self.released = {}, [], []
        self._mutex = asyncio.Lock()

    def mutex(self, uuid):
        return self._mutex

    def lock(self, uuid):
        return self._mutex

    def is_managed(self, uuid):
        return uuid in self.vms

    async def take_over(self, uuid, name, password, pushes, profile):
        self.taken.append((uuid, password))
        self.vms[uuid] = Machine(self, name)
        return self.vms[uuid]

    async def release(self, uuid, change):
        self.released.append(uuid)
        del self.vms[uuid]

    def manage(self, uuid):
        self.vms[uuid] = Machine(self, "managed")

    async def define(self, uuid, active=False):
        def define(connection):
            domain = connection.defineXML(XML.format(uuid))
            if active:
                domain.create()

        await self.libvirt.call(define)

    async def autostarts(self, uuid):
        return bool(await self.libvirt.call(lambda connection: connection.lookupByUUIDString(uuid).autostart()))

    async def ask(self, sender, action, **content):
        query = payloads.request(ns.HANDOVER, action, text=json.dumps(content))
        reply = await dispatch.answer(self, self.permissions, sender, ET.fromstring(ET.tostring(query)))
        return json.loads(reply.text)

    async def offer(self, sender, uuid):
        grants = [["mallory@example.org", "all"]]
        return await self.ask(sender, "offer", uuid=uuid, name="x", password="p", autostart=True, grants=grants)

    def granted(self, uuid):
        return self.permissions.permits("mallory@example.org/x", "info", f"{uuid}@example.org")


@pytest.fixture
def on_agent(tmp_path):
    """Runs a test on a new agent, with the UUID of a machine that nobody has."""

    def run(test):
        async def run():
            agent = Agent(tmp_path)
            await agent.libvirt.start()
            try:
                await test(agent, str(uuidlib.uuid4()))
            finally:
                await agent.libvirt.stop()
                agent.store.close()

        asyncio.run(run())

    return run


def test_what_was_announced_and_has_come_is_taken_once(on_agent):
    async def test(agent, uuid):
        assert await agent.ask(HV2, "query", uuid=uuid, announced=True) == {"state": None}
        await agent.define(uuid)
        assert (await agent.offer(HV2, uuid))["vm"]["uuid"] == uuid
        assert agent.taken == [(uuid, "p")] and agent.granted(uuid) and await agent.autostarts(uuid)
        # The answer was lost: the same again, and nothing changes any more.
        await agent.libvirt.call(lambda connection: connection.lookupByUUIDString(uuid).setAutostart(0))
        assert (await agent.offer(HV2, uuid))["vm"]["uuid"] == uuid
        assert len(agent.taken) == 1 and not await agent.autostarts(uuid) and not agent.vms[uuid].reclaimed

    on_agent(test)


@pytest.mark.parametrize("how", ["here before", "only asked for", "announced by another", "not here"])
def test_what_has_not_come_as_announced_is_not_taken(on_agent, how):
    async def test(agent, uuid):
        if how == "here before":
            await agent.define(uuid)
        announced = {} if how == "only asked for" else {"announced": True}
        await agent.ask(HV3 if how == "announced by another" else HV2, "query", uuid=uuid, **announced)
        if how != "not here":
            with contextlib.suppress(errors.LibvirtError):
                await agent.define(uuid)
        with pytest.raises(errors.ArchipelError, match="so its account is not taken"):
            await agent.offer(HV2, uuid)
        assert (agent.taken, agent.vms) == ([], {}) and not agent.granted(uuid)

    on_agent(test)


def test_a_machine_on_its_way_out_is_not_called_back_by_anybody(on_agent):
    async def test(agent, uuid):
        await agent.define(uuid)
        agent.manage(uuid)
        agent.vms[uuid].leaving = True
        with pytest.raises(errors.ArchipelError, match="so its account is not taken"):
            await agent.offer(HV2, uuid)
        assert not agent.vms[uuid].reclaimed and not agent.granted(uuid)

    on_agent(test)


@pytest.mark.parametrize(
    "here, active_there, given_up",
    [("nothing", False, True), ("nothing", True, True), ("off", False, False), ("off", True, True)]
    + [("active", False, False), ("active", True, False)],
)
def test_a_machine_belongs_to_where_libvirt_has_it(on_agent, here, active_there, given_up):
    async def test(agent, uuid):
        agent.manage(uuid)
        if here != "nothing":
            await agent.define(uuid, active=here == "active")
        answer = await agent.ask(HV2, "claim", uuid=uuid, active=active_there)
        assert answer == {"managed": not given_up}
        assert agent.released == ([uuid] if given_up else [])
        assert (await agent.ask(HV2, "claim", uuid=str(uuidlib.uuid4()), active=True)) == {"managed": False}

    on_agent(test)


@pytest.mark.parametrize("content", [{}, {"uuid": "x", "active": True}, {"uuid": str(uuidlib.uuid4()), "active": 1}])
def test_a_claim_says_what_is_claimed(on_agent, content):
    async def test(agent, uuid):
        with pytest.raises(errors.MalformedRequest, match="claim needs 'uuid'"):
            await agent.ask(HV2, claims.CLAIM, **content)

    on_agent(test)


def test_only_peers_may(on_agent):
    async def test(agent, uuid):
        for action in (handover.QUERY, handover.OFFER, claims.CLAIM, making.MAKE):
            with pytest.raises(errors.PermissionDenied):
                await agent.ask("admin@example.org/x", action, uuid=uuid)

    on_agent(test)
