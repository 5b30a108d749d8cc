# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The declaration engine against the daemon of the hypervisor that this runs on.

To be run there as a member of the groups libvirt and kvm, with the distribution's Python::

    PYTHONPATH=/usr/lib/archipel python3 -m pytest tests/integration/engine

Domains, volumes and the pool that the tests make have names that begin with "engine-test", and are removed.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import tempfile
import types
import uuid as uuidlib

import pytest

libvirt = pytest.importorskip("libvirt")

from archipel_agent import (  # noqa: E402 - they import libvirt
    calm,
    disk_copies,
    dispatch,
    normaliser_client,
    preflight,
    store,
)
from archipel_agent.libvirt_facade import Libvirt  # noqa: E402 - as above
from archipel_agent.permissions import Permissions  # noqa: E402 - as above
from archipel_protocol import declaration as wire, namespaces as ns, payloads  # noqa: E402 - as above

# Declares its handlers.
importlib.import_module("archipel_agent.declaration")

URI = "qemu:///system"
ISOS = ("a.iso", "b.iso")
NETWORKS = ("back", "front", "lan")
FOLDER = "/vm/engine-test"
ADMIN = "admin@archipel.test"
AUTOMATION = "automation@archipel.test"


def pytest_configure(config):
    config.addinivalue_line("markers", "long: takes minutes")


class Store:
    """Which machines are managed; on a hypervisor a table and their XMPP sessions."""

    node = "hv1"
    domain = "archipel.test"

    def __init__(self, libvirt_facade, normaliser, folder):
        self.libvirt = libvirt_facade
        self.normaliser = normaliser
        self.disk_copies = disk_copies.DiskCopies(libvirt_facade)
        self.calm = calm.Calm()
        self.config = types.SimpleNamespace(peers={})
        self.store = store.Store(f"{folder}/store.sqlite3")
        self.managed = {}
        self._locks = {}

    @property
    def vms(self):
        return {uuid: types.SimpleNamespace(uuid=uuid, name=name) for uuid, name in self.managed.items()}

    def is_managed(self, uuid):
        return uuid in self.managed

    def lock(self, uuid):
        return self._locks.setdefault(uuid, asyncio.Lock())

    async def manage(self, uuid, name):
        self.managed[uuid] = name

    manage_new = manage

    @property
    def making(self):
        return self

    async def secure(self, uuid, lost):
        """No other hypervisor is there."""

    async def release(self, uuid):
        self.managed.pop(uuid, None)


class Hypervisor:
    """An entity that takes declarations, with the real facade and the real normaliser."""

    kind = "hypervisor"
    jid = "hv1@archipel.test/hv1"

    def __init__(self, agent):
        self.agent = agent
        self.permissions = Permissions(
            root_admins=frozenset([ADMIN]), grants={AUTOMATION: frozenset(["all"])}, peers=frozenset()
        )

    async def ask(self, action, payload, sender=AUTOMATION + "/test"):
        query = payloads.request(ns.DECLARATION, action, text=wire.encode(payload))
        reply = await dispatch.answer(self, self.permissions, sender, query)
        return json.loads(reply.text)

    async def one(self, action, sender=AUTOMATION + "/test", **wanted):
        return (await self.ask(action, {"vms": [wanted]}, sender))["results"][0]

    async def plan(self, **wanted):
        return await self.one("plan", **wanted)

    async def apply(self, sender=AUTOMATION + "/test", **wanted):
        """Apply after a plan, which has to foretell exactly what happens; a second run changes nothing."""
        foretold = await self.one("plan", sender, **wanted)
        happened = await self.one("apply", sender, **wanted)
        if "error" not in happened and "power off" not in happened.get("actions", []):
            assert happened == foretold
            # What a guest that runs does not have yet is told every time.
            unchanged = {key: happened[key] for key in ("uuid", "restart_required", "ignored") if key in happened}
            assert await self.one("plan", sender, **wanted) == unchanged
            assert await self.one("apply", sender, **wanted) == unchanged
        return happened

    async def dump(self, uuid, flags=3):
        return await self.agent.libvirt.call(lambda connection: connection.lookupByUUIDString(uuid).XMLDesc(flags))


@pytest.fixture(scope="session")
def loop():
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture(scope="session")
def run(loop):
    return loop.run_until_complete


@pytest.fixture(scope="session")
def hypervisor(loop, run, tmp_path_factory):
    async def start():
        facade = Libvirt(URI)
        await facade.start()
        assert facade.connected
        return facade, normaliser_client.Normaliser(root, facade)

    # Short, because the driver below it makes sockets, whose paths have at most 107 characters.
    with tempfile.TemporaryDirectory(prefix="engine") as root:
        facade, normaliser = run(start())
        run(facade.call(make_pool))
        yield Hypervisor(Store(facade, normaliser, root))
        run(normaliser.stop())
        run(facade.call(remove_pool))
        run(facade.stop())


@pytest.fixture
def anything_is_there(monkeypatch):
    """Nobody looks whether the host has what is declared."""
    monkeypatch.setattr(preflight, "problems", lambda *args: [])


@pytest.fixture
def machine(hypervisor, run):
    """(name, uuid) of a machine that is gone afterwards, whatever the test made of it."""
    uuid = str(uuidlib.uuid4())
    name = "engine-test-" + uuid[:8]
    yield {"name": name, "uuid": uuid}
    run(hypervisor.agent.libvirt.call(remove, uuid))
    hypervisor.agent.managed.pop(uuid, None)


def remove(connection, uuid):
    try:
        domain = connection.lookupByUUIDString(uuid)
    except libvirt.libvirtError:
        return
    if domain.isActive():
        domain.destroy()
    if domain.isPersistent():
        domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_NVRAM | libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE)


def make_pool(connection):
    remove_pool(connection)
    xml = f"<pool type='dir'><name>engine-test</name><target><path>{FOLDER}</path></target></pool>"
    pool = connection.storagePoolCreateXML(xml, libvirt.VIR_STORAGE_POOL_CREATE_WITH_BUILD)
    for name in ISOS:
        pool.createXML(f"<volume><name>{name}</name><capacity>1024</capacity></volume>")
    for name in NETWORKS:
        connection.networkDefineXML(f"<network><name>{name}</name></network>")


def remove_pool(connection):
    for network in connection.listAllNetworks():
        if network.name() in NETWORKS:
            network.undefine()
    with contextlib.suppress(libvirt.libvirtError):
        pool = connection.storagePoolLookupByName("engine-test")
        for volume in pool.listAllVolumes():
            volume.delete()
        pool.destroy()
