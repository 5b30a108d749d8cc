# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Nobody but its owner is logged in as a virtual machine.

A new password keeps nobody out who is logged in already, and any session may set another one (XEP-0077, 3.3). An
account has no request that ends its other sessions. But a server ends a session when the same resource logs in again
(RFC 6120, 7.7.2.2), and it lists the resources, also of sessions that show no presence (XEP-0030, 6).
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import typing as t

from archipel_protocol import errors, jids

from . import xmpp
from .backoff import pauses

if t.TYPE_CHECKING:
    from .machine_account import MachineAccount

log = logging.getLogger(__name__)

# Seconds that the hypervisor from which a machine came may stay logged in, to answer what was asked of it there.
LEAVING = 10.0


async def ensure(vm: MachineAccount, session: xmpp.Session) -> None:
    """Ends all sessions of a machine but ``session``; returns when there is no other, or when it has ended itself."""
    loop = asyncio.get_running_loop()
    own, deadline = jids.resource(vm.jid), loop.time() + LEAVING
    wait = pauses(first=0.2, largest=5)
    intruded = False
    while session.connected:
        if vm.moving:
            # The next owner does it; should there be none, it goes on here.
            await asyncio.sleep(next(wait))
            continue
        try:
            # At a start those who still want to log in come first.
            async with vm.agent.logins:
                others = await session.resources() - {own}
            strangers = others - set(vm.agent.config.peers) if loop.time() < deadline else others
            if strangers:
                log.warning("somebody else is logged in as %s: %s", vm.bare, ", ".join(sorted(strangers)))
                intruded = True
                # They may have set a password of their own.
                await renew_password(vm, session)
                for resource in strangers:
                    await _take_place(vm, resource)
            elif not others:
                if intruded:
                    await renew_password(vm, session)
                return
        except errors.ArchipelError as fault:
            log.warning("the other sessions of %s are not ended yet: %s", vm.bare, fault.message)
        await asyncio.sleep(next(wait))


async def renew_password(vm: MachineAccount, session: xmpp.Session) -> None:
    """Sets a password that nobody else knows. It is stored first, so that it is known whenever we are interrupted.

    Not while the machine moves: the target has been given the one that counts.
    """
    store = vm.agent.store
    async with vm.renewal:
        row = store.row(vm.bare)
        if row is None or row.handover_to:
            return
        password = row.next_password or secrets.token_urlsafe(32)
        store.change(vm.bare, next_password=password)
        await session.change_password(password)
        store.retire(vm.bare, row.password)
        store.change(vm.bare, password=password, next_password=None)


async def _take_place(vm: MachineAccount, resource: str) -> None:
    row = vm.agent.store.row(vm.bare)
    if row is None:
        return
    place = xmpp.Session(vm.agent.server, f"{vm.bare}/{resource}", vm)
    try:
        await place.login(row.password)
    finally:
        place.close()
