# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""A virtual machine's account on the XMPP server: made, logged in to, removed.

The hypervisor's session makes it (XEP-0077); the server gives it to one hypervisor only. So whoever is refused it, and
none of whose passwords count, knows that it is another's.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import typing as t

from archipel_protocol import errors, jids

from . import sole_session, xmpp
from .backoff import pauses
from .entity import Entity

if t.TYPE_CHECKING:
    from .agent import Agent
    from .store import Row

log = logging.getLogger(__name__)


class MachineAccount(Entity):
    """The part of a virtual machine's entity that is one row of the store."""

    kind = "vm"
    identity = ("client", "bot")

    def __init__(self, agent: Agent, uuid: str, name: str) -> None:
        super().__init__(agent, jids.vm_jid(uuid, agent.domain, agent.node), name)
        self.uuid = uuid
        self.bare = jids.bare(self.jid)
        self._releasing: asyncio.Task[None] | None = None
        # The account exists, and none of our passwords is its own.
        self.foreign = False
        # Held while a new password is being set.
        self.renewal = asyncio.Lock()
        # Whether it is known whose the account is.
        self.account_known = asyncio.Event()
        # Held while the account is being made.
        self._making = asyncio.Lock()
        # It has been waiting for its account, and was never logged in: others come first.
        self._new = False
        # Somebody waits for what only a login can tell.
        self._urgent = False
        # The server was never asked for its account with a password of ours: where there is one, it is somebody else's.
        self.unasked = False

    async def login(self) -> xmpp.Session:
        """Logs in; makes the account where it is missing. Starts no earlier than the hypervisor is online."""
        await self.agent.hypervisor.online.wait()
        row = self.agent.store.row(self.bare)
        self._new = self._new or (row is not None and not row.registered)
        if self._new and not self._urgent:
            await self.agent.calm.wait(self)
        async with self.agent.logins:
            row = await self.make_account()
            session = await self._try_passwords(row.password, row.next_password, *self.agent.store.former(self.bare))
            if session is None and row.releasing:
                # The account is gone already, or it is somebody else's.
                self._is_foreign()
            elif session is None:
                # The account may have been removed behind our back.
                row = await self.make_account(again=True)
                session = await self._try_passwords(row.password)
            if session is None:
                raise xmpp.NotAuthorized(f"the server refuses the password that {self.bare} was registered with")
            self.foreign = self._new = False
            self.account_known.set()
            return session

    async def know_account(self) -> None:
        """Returns when it is known whose the account is; makes it where it is not known to be there."""
        with contextlib.suppress(errors.ArchipelError):
            await self.make_account()
        if not self.account_known.is_set():
            self._urgent = True
            self.agent.calm.hurry(self)
            await self.account_known.wait()

    async def make_account(self, again: bool = False) -> Row:
        """Makes the account where it is not known to be there, or ``again``; the row before. Raises ArchipelError."""
        async with self._making:
            row = self.agent.store.row(self.bare)
            if row is None:
                raise errors.ArchipelError(f"{self.bare} has no row in the store")
            if again or not row.registered:
                await self._register(row.password)
            return row

    async def on_login(self, session: xmpp.Session) -> None:
        """Sets the password that was meant to be set, after a hand-over or an interruption; ends other sessions."""
        row = self.agent.store.row(self.bare)
        if row is not None and row.next_password:
            await sole_session.renew_password(self, session)
        if not self.releasing:
            self.agent.spawn(sole_session.ensure(self, session), f"end of other sessions of {self.bare}")

    async def _try_passwords(self, password: str, *others: str | None) -> xmpp.Session | None:
        """A session with the first password that counts; another one than ``password`` is replaced at once."""
        for candidate in filter(None, (password, *others)):
            session = xmpp.Session(self.agent.server, self.jid, self)
            try:
                await session.login(candidate)
            except xmpp.NotAuthorized:
                continue
            if candidate != password:
                self.use_password(candidate)
            return session
        return None

    async def _register(self, password: str) -> None:
        """Makes the account on the hypervisor's session; that it exists already is an error where it cannot be ours."""
        hypervisor = self.agent.hypervisor.session
        if hypervisor is None:
            raise xmpp.Unreachable(f"{self.agent.node} is not connected to the XMPP server")
        unasked, self.unasked = self.unasked, False
        try:
            await hypervisor.register(self.uuid, password)
        except xmpp.Conflict:
            row = self.agent.store.row(self.bare)
            if row is not None and (row.registered or (unasked and not self.agent.store.former(self.bare))):
                self._is_foreign()
                self.agent.press(self)
                raise xmpp.NotAuthorized(
                    f"the account {self.bare} exists and has another password than this agent knows; where no other"
                    " hypervisor manages this machine, remove the account on the XMPP server"
                ) from None
        else:
            self.foreign = False
            self.account_known.set()
        self.agent.store.change(self.bare, registered=True)
        self.agent.pushes.unmake(self.bare)

    def _is_foreign(self) -> None:
        self.foreign = True
        self.account_known.set()

    def use_password(self, password: str) -> None:
        """Takes over a password that counts on the server where ours do not; it is replaced at the next login."""
        self.foreign = False
        self.agent.store.change(self.bare, password=password, next_password=secrets.token_urlsafe(32))

    @property
    def moving(self) -> bool:
        """Whether it is on its way to another host."""
        row = self.agent.store.row(self.bare)
        return row is not None and row.handover_to is not None

    @property
    def leaving(self) -> bool:
        """Whether it was on its way to another hypervisor, or to be forgotten."""
        row = self.agent.store.row(self.bare)
        return self.releasing or row is None or row.handover_to is not None

    def reclaim(self) -> None:
        """The machine came back before it was forgotten here: no intention and no release counts any more."""
        self.keep()
        self.agent.store.change(self.bare, handover_to=None, handover_autostart=False, releasing=False)

    # The end of management

    @property
    def releasing(self) -> bool:
        """Whether management ends as soon as the account is gone."""
        return self._releasing is not None

    def keep(self) -> None:
        """Takes a release back that did not come to its end."""
        self.foreign = False
        if not self.online.is_set():
            self.account_known.clear()
        if self._releasing is not None:
            self._releasing.cancel()
            self._releasing = None

    def release(self) -> asyncio.Task[None]:
        """Has the account removed, and then the row; goes on until the server has done so."""
        if self._releasing is None:
            self._releasing = self.agent.spawn(self._release(), f"release of {self.uuid}")
        return self._releasing

    async def _release(self) -> None:
        wait = pauses(first=0.5, largest=15)
        while not await self._is_not_ours():
            try:
                # Now and then, because login() may find out that there is no account of ours.
                await asyncio.wait_for(self.online.wait(), 0.5)
                session = self.session
                if session is not None:
                    await self.agent.pushes.remove_node(session, self.bare)
                    row = self.agent.store.row(self.bare)
                    await session.remove_account()
                    if row is not None:
                        self.agent.store.retire(self.bare, row.password, removed=True)
                    break
            except asyncio.TimeoutError:
                continue
            except errors.ArchipelError as fault:
                log.info("the account %s is not removed yet: %s", self.bare, fault.message)
                await asyncio.sleep(next(wait))
        self.agent.forget(self)

    async def _is_not_ours(self) -> bool:
        """Whether there is no account to be removed. One that is being made at this moment is to be known first."""
        async with self._making:
            return self.foreign
