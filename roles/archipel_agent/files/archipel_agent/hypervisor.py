# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The hypervisor on XMPP: its account comes from the configuration, its presence counts the virtual machines."""

from __future__ import annotations

import asyncio
import logging
import typing as t

from archipel_protocol import errors, jids, states

from . import xmpp
from .config import ConfigError
from .entity import Entity

if t.TYPE_CHECKING:
    from .agent import Agent

log = logging.getLogger(__name__)

# Seconds in which machines that come and go are gathered: each number is told to everybody who sees the hypervisor.
_GATHER = 0.2


class HypervisorEntity(Entity):
    """The one entity that is always there; requests on the whole host go to it."""

    kind = "hypervisor"
    # The machines wait for it.
    patience = 8.0
    identity = ("automation", "device")

    def __init__(self, agent: Agent) -> None:
        super().__init__(agent, jids.hypervisor_jid(agent.node, agent.domain), agent.node)
        self._counting: asyncio.TimerHandle | None = None
        self._counted = 0.0  # when, in the loop's seconds

    async def login(self) -> xmpp.Session:
        """Logs in with the password of the configuration, read anew each time so that it can be mended."""
        session = xmpp.Session(self.agent.server, self.jid, self)
        try:
            password = self.agent.config.read_password()
        except ConfigError as fault:
            raise errors.ArchipelError(str(fault)) from None
        await session.login(password)
        return session

    async def on_login(self, session: xmpp.Session) -> None:
        """Brings the copy of the tags up to date; has the server remove again what it may have forgotten to."""
        self.agent.tags.on_login()
        self.agent.spawn(self._remove_again(), "removal of accounts that came back")

    async def _remove_again(self) -> None:
        store = self.agent.store
        for bare, password in store.removed():
            session = xmpp.Session(self.agent.server, f"{bare}/{self.agent.node}", self)
            try:
                await session.login(password)
                await session.remove_account()
                log.warning("the account %s was there again, and is removed again", bare)
            except xmpp.NotAuthorized:
                log.debug("the account %s is gone", bare)
            except errors.ArchipelError as fault:
                # The next login of the hypervisor tries again.
                log.info("the account %s is not looked at: %s", bare, fault.message)
                continue
            finally:
                session.close()
            store.settle(bare)

    def count(self) -> None:
        """Shows how many virtual machines are managed, or that libvirt is out of reach; not too often."""
        loop = asyncio.get_running_loop()
        if self._counting is None:
            self._counting = loop.call_at(max(loop.time(), self._counted + _GATHER), self._count)

    def _count(self) -> None:
        self._counting, self._counted = None, asyncio.get_running_loop().time()
        if self.agent.libvirt.connected:
            self.show("", f"Online ({len(self.agent.vms)})")
        else:
            self.show(*states.LIBVIRT_LOST)
