# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The agent as a whole: its parts, their start and stop, and what links them."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import os
import secrets
import signal
import time
import typing as t
import weakref

from archipel_protocol import errors, jids, namespaces as ns

from . import (
    addresses,
    calm,
    chat,
    claims,
    config as configuration,
    disk_copies,
    gate,
    grants,
    libvirt_facade,
    logs,
    making,
    migration,
    notify,
    standings,
    tags,
    unfinished,
)
from .config import Config
from .contacts import Contacts
from .endings import end
from .hypervisor import HypervisorEntity
from .machine_account import MachineAccount
from .newcomers import Newcomers
from .normaliser_client import Normaliser
from .outbox import Outbox
from .permissions import Permissions
from .pushes import Pushes
from .store import Row, Store
from .vcard import Profiles
from .virtual_machine import VirtualMachineEntity
from .xmpp_client import Server, tls_context

log = logging.getLogger(__name__)

# The modules that declare handlers.
CAPABILITIES = (
    "hypervisor_control",
    "hypervisor_info",
    "host_facts",
    "lifecycle",
    "soft_alloc",
    "clone",
    "organisation",
    "tags",
    "vm_control",
    "vm_resources",
    "screenshot",
    "vm_definition",
    "declaration",
    "migration",
    "migration_progress",
    "handover",
    "claims",
    "making",
    "in_use",
    "permission_control",
    "avatars",
    "grants_declaration",
)

# Options that are built into what runs.
_FIXED = ("archipel_folder_lib", "hypervisor_xmpp_jid", "libvirt_uri", "xmpp_host", "xmpp_port")
# Logins at the same time, so that a thousand machines don't starve the hypervisor's own session.
LOGINS = 16
# Seconds that systemd's READY waits for the first login, and a release for the server.
FIRST_LOGIN = 10.0
RELEASE = 5.0
# Seconds that the last requests of an entity have for their answers.
GRACE = 2.0


class Agent:
    """One hypervisor's agent."""

    def __init__(self, config: Config) -> None:
        for name in CAPABILITIES:
            importlib.import_module("." + name, __package__)
        self.config = config
        self.node = config.node
        self.domain = config.domain
        self.jid = jids.hypervisor_jid(self.node, self.domain)
        # First: what it refuses is to stay as it is, all of it.
        self.store = Store(config.archipel_folder_lib / "hypervisor.sqlite3")
        self.permissions = Permissions(
            config.archipel_root_admins,
            config.grants,
            config.peer_jids,
            grants.Store(config.archipel_folder_lib / "permissions.sqlite3"),
        )
        self.server = _server(config)
        self.pushes = Pushes(self, Outbox(config.archipel_folder_lib / "pushes.sqlite3"))
        self.libvirt = libvirt_facade.Libvirt(config.libvirt_uri, config.libvirt_timeout)
        # libvirt's driver waits for the disk at each definition, so systemd gives a folder in memory.
        scratch = os.environ.get("RUNTIME_DIRECTORY", config.archipel_folder_lib)
        self.normaliser = Normaliser(os.path.join(scratch, "normaliser"), self.libvirt)
        self.contacts = Contacts(self)
        self.permissions.on_change(self.contacts.on_change)
        self.profiles = Profiles(self)
        self.hypervisor = HypervisorEntity(self)
        self.vms: dict[str, VirtualMachineEntity] = {}
        self.guests = addresses.Guests(self.libvirt, self.spawn)
        self.disk_copies = disk_copies.DiskCopies(self.libvirt)
        self.logins = asyncio.Semaphore(LOGINS)
        self.calm = calm.Calm()
        self.making = making.Making(self)
        self.gate = gate.Gate()
        self.chat = chat.Chat()
        self.tags = tags.Copy(self)
        self._newcomers = Newcomers(self._manage_all)
        self.settling: dict[str, asyncio.Task[t.Any]] = {}  # by UUID, migration.py's
        self._stopping = asyncio.Event()
        self._again = False
        self._tasks: set[asyncio.Task[t.Any]] = set()
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()

    async def run(self) -> bool:
        """Runs until SIGTERM or SIGINT. No virtual machine is touched by start or stop.

        True: it is to be started anew, because a reload (SIGHUP) found changes that only a start can take over.
        """
        stopping = self._stopping
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        loop.add_signal_handler(signal.SIGHUP, self.reload)
        self.spawn(_keep_watchdog(), "watchdog")
        await self.start()
        notify.notify("READY=1")
        log.info("%s manages %d virtual machines", self.jid, len(self.vms))
        await stopping.wait()
        if not self._again:
            notify.notify("STOPPING=1")
        await self.stop()
        log.info("%s has stopped", self.jid)
        return self._again

    def reload(self) -> None:
        """Takes over what the configuration says now; one that is wrong changes nothing."""
        # sd_notify(3): systemd counts the reload as done with the next READY, also with that of a start anew.
        notify.notify(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")
        try:
            config = configuration.load(self.config.path)
            config.read_password()
            server = _server(config)
            logs.set_up(config.logging_level, config.logging_file_path)
        except (configuration.ConfigError, OSError) as fault:
            log.error("the configuration stays as it was: %s", fault)
        else:
            self._take_over(config, server)
        if not self._again:
            notify.notify("READY=1")

    def _take_over(self, config: Config, server: Server) -> None:
        fixed = [name for name in _FIXED if getattr(config, name) != getattr(self.config, name)]
        if fixed:
            log.info("the agent starts anew, because %s changed", ", ".join(fixed))
            self._again = True
            self._stopping.set()
            return
        self.config, self.server = config, server
        self.libvirt.timeout = config.libvirt_timeout
        self.permissions.configure(config.archipel_root_admins, config.grants, config.peer_jids)
        log.info("the configuration was read anew")

    async def start(self) -> None:
        """Starts everything; returns when libvirt and the XMPP server were tried, whatever came of it."""
        rows = self.store.rows()
        # An earlier life may have ended between two databases.
        entities = {jids.bare(self.jid), *(row.jid for row in rows)}
        self.permissions.keep_only(entities)
        self.pushes.keep_only(entities)
        for row in rows:
            self._add(row)
        self.libvirt.on_event(self._on_event)
        self.libvirt.on_metadata(self._on_metadata)
        self.libvirt.on_connection(self._on_connection)
        self.hypervisor.count()
        self.hypervisor.start()
        await self.libvirt.start()
        self.spawn(self.normaliser.start(), "start of the normaliser")
        self.spawn(self.tags.keep(), "copy of the tags")
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self.hypervisor.online.wait(), FIRST_LOGIN)

    async def stop(self) -> None:
        """Ends sessions, tasks and connections."""
        await end(self._tasks)
        entities = [self.hypervisor, *self.vms.values()]
        await asyncio.gather(*(entity.stop() for entity in entities), return_exceptions=True)
        # What the end of the sessions has brought about.
        await end(self._tasks)
        await self.normaliser.stop()
        await self.libvirt.stop()
        self.store.close()
        self.permissions.close()
        self.pushes.close()

    def spawn(self, work: t.Coroutine[t.Any, t.Any, t.Any], name: str) -> asyncio.Task[t.Any]:
        """Runs ``work`` beside everything else; it is ended with the agent, and its failure is logged."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[t.Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("%s failed", task.get_name(), exc_info=task.exception())

    # Management

    def is_managed(self, uuid: str) -> bool:
        """Whether the virtual machine is managed here, and is to stay so."""
        return uuid in self.vms and not self.vms[uuid].releasing

    def lock(self, uuid: str) -> t.AsyncContextManager[None]:
        """One mutating operation a virtual machine at a time.

        ArchipelError while it is on its way to another host, or something that was interrupted is not done with it.
        """
        return self._operation(uuid)

    @contextlib.asynccontextmanager
    async def _operation(self, uuid: str) -> t.AsyncIterator[None]:
        # Before and after: a migration may take hours, and one may have begun while this waited.
        self._refuse_busy(uuid)
        async with self.mutex(uuid):
            self._refuse_busy(uuid)
            yield

    def mutex(self, uuid: str) -> asyncio.Lock:
        """The lock below lock()."""
        return self._locks.setdefault(uuid, asyncio.Lock())

    def _refuse_busy(self, uuid: str) -> None:
        if self.store.unfinished(uuid):
            message = f"an interrupted {self.store.unfinished(uuid)[0].action} of {uuid} is being brought to its end"
            raise errors.ArchipelError(message, errors.CODE_MIGRATING)
        row = self.store.row(jids.vm_jid(uuid, self.domain))
        if row is not None and row.handover_to:
            peer = jids.node(row.handover_to)
            raise errors.ArchipelError(f"{row.name} is migrating to {peer}", errors.CODE_MIGRATING)

    async def manage(self, uuid: str, name: str, change: str = "alloc") -> None:
        """Brings a domain under management; its account and login follow in the background. Again: no change.

        ``change`` is the hypervisor's push.
        """
        self._manage_all({uuid: name}, change)
        self.spawn(self.vms[uuid].refresh(), f"look at {uuid}")

    async def manage_new(self, uuid: str, name: str) -> None:
        """The same of a machine that is still to be defined, and so cannot be looked at yet."""
        if self.calm.crowded:
            await self._newcomers.add(uuid, name)
        else:
            self._manage_all({uuid: name})

    def _manage_all(self, machines: t.Mapping[str, str], change: str = "alloc") -> None:
        """Brings machines, names by UUID, under management, all of them or none."""
        self.pushes.membership(change, *(uuid for uuid in machines if not self.is_managed(uuid)))
        self.store.expect_no_more(*machines)
        known = {jids.vm_jid(uuid, self.domain): (self.vms.get(uuid), name) for uuid, name in machines.items()}
        new = [(jid, name, secrets.token_urlsafe(32)) for jid, (entity, name) in known.items() if entity is None]
        for row in self.store.add_all(new) if new else ():
            self._add(row).unasked = True
        for jid, (entity, name) in known.items():
            if entity is not None and entity.releasing:
                entity.keep()
                self.store.change(jid, name=name, releasing=False, registered=False)
        self.hypervisor.count()
        self.tags.changed()

    def press(self, vm: MachineAccount) -> None:
        """Has other hypervisors give up a machine that is here, and whose account is none of ours."""
        self.spawn(claims.press(self, vm), f"claim of {vm.uuid}")

    async def take_over(
        self, uuid: str, name: str, password: str, pushes: t.Any, profile: dict[str, str]
    ) -> VirtualMachineEntity:
        """Manages a machine whose account exists: it gets a new password as soon as it is logged in.

        ``pushes`` is what Pushes.part() returned on the host that it comes from, ``profile`` its store's.
        """
        jid = jids.vm_jid(uuid, self.domain)
        self.pushes.arrive(jid, pushes)
        self.store.set_profile(jid, profile)
        self.pushes.membership("migrate", uuid)
        row = self.store.add(jid, name, password, registered=True)
        self.store.change(jid, next_password=secrets.token_urlsafe(32))
        entity = self._add(row)
        await entity.refresh()
        self.hypervisor.count()
        self.tags.changed()
        return entity

    async def release(self, uuid: str, change: str = "free") -> None:
        """Ends management: account and row go, now or as soon as the server answers. The domain stays as it is.

        ``change`` is the hypervisor's push.
        """
        entity = self.vms.get(uuid)
        if entity is None:
            return
        if not entity.releasing:
            self.pushes.membership(change, uuid)
        self.store.change(entity.bare, releasing=True)
        await asyncio.wait({entity.release()}, timeout=RELEASE)

    def forget(self, entity: VirtualMachineEntity) -> None:
        """Drops row, grants and entity; the account stays as it is."""
        if self.vms.get(entity.uuid) is entity:
            del self.vms[entity.uuid]
        self.store.remove(entity.bare)
        self.permissions.forget(entity.bare)
        self.pushes.forget(entity.bare)
        self.hypervisor.count()
        self.tags.changed()
        # Beside, because the request that brought this about may be one of the entity's own, still to be answered.
        self.spawn(entity.stop(GRACE), f"end of {entity.uuid}")

    def _add(self, row: Row) -> VirtualMachineEntity:
        uuid = jids.node(row.jid)
        entity = self.vms[uuid] = VirtualMachineEntity(self, uuid, row.name)
        entity.start()
        if row.releasing:
            entity.release()
        return entity

    # libvirt

    def _on_event(self, uuid: str, event: int, detail: int) -> None:
        if event in (libvirt_facade.DEFINED, libvirt_facade.UNDEFINED):
            self.tags.changed()
        entity = self.vms.get(uuid)
        if entity is not None:
            entity.on_event(event, detail)

    def _on_metadata(self, namespace: str) -> None:
        if namespace == ns.TAGS:
            self.tags.changed()

    def _on_connection(self, connected: bool) -> None:
        self.hypervisor.count()
        if connected:
            self.tags.changed()
            self.spawn(self._reconcile(), "reconciliation with libvirt")
        else:
            for entity in self.vms.values():
                entity.libvirt_lost()

    async def _reconcile(self) -> None:
        """Has every entity show how its domain stands, and settles migrations that were interrupted."""
        while True:
            before = {uuid: entity.events_seen for uuid, entity in self.vms.items()}
            try:
                found = await self.libvirt.call(standings.standings)
                break
            except errors.ArchipelError as fault:
                log.warning("cannot list the domains: %s", fault.message)
            if not self.libvirt.connected:
                # Its return brings the next reconciliation.
                return
            await asyncio.sleep(5)
        for uuid, entity in list(self.vms.items()):
            if entity.events_seen == before.get(uuid):
                entity.stands(found.get(uuid))
            else:
                self.spawn(entity.refresh(), f"look at {uuid}")
        migration.resume(self)
        unfinished.resume(self)


def _server(config: Config) -> Server:
    """Raises OSError where the authorities' certificates cannot be read."""
    return Server(config.domain, config.xmpp_host, config.xmpp_port, tls_context(str(config.xmpp_ca_file)))


async def _keep_watchdog() -> None:
    """Tells systemd that the loop turns."""
    interval = notify.watchdog_interval()
    while interval is not None:
        notify.notify("WATCHDOG=1")
        await asyncio.sleep(interval)
