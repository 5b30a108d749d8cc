# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which subscriptions end with a grant, and which are the server's."""

from __future__ import annotations

import asyncio
import types
from xml.etree import ElementTree as ET

import pytest

from archipel_agent.contacts import Contacts
from archipel_agent.permissions import Permissions

# As ejabberd sends it: entries of shared roster groups have that group.
ROSTER = """<query xmlns='jabber:iq:roster'>
<item jid='alice@example.org' subscription='both'><group>people</group></item>
<item jid='ops@example.org' subscription='from'/>
<item jid='bob@example.org' subscription='from'/>
<item jid='carol@example.org' subscription='to'/>
</query>"""


class Session:
    connected = True

    def __init__(self) -> None:
        self.sent: list[tuple[str, str]] = []

    async def request(self, to, payload, kind):
        return ET.fromstring(ROSTER)

    def presence(self, to, kind):
        self.sent.append((to, kind))


@pytest.mark.parametrize(
    "kind, ended", [("hypervisor", ["bob@example.org"]), ("vm", ["alice@example.org", "bob@example.org"])]
)
def test_what_the_server_shares_of_hypervisors_is_the_servers(kind, ended):
    agent = types.SimpleNamespace(permissions=Permissions(grants={"ops@example.org": frozenset(["presence"])}))
    entity = types.SimpleNamespace(agent=agent, kind=kind, jid="one@example.org/hv1", session=Session())

    async def check() -> None:
        agent.logins = asyncio.Semaphore()
        work = []
        agent.spawn = lambda coroutine, name: work.append(asyncio.ensure_future(coroutine)) or work[-1]
        Contacts(agent).check(entity)
        await asyncio.gather(*work)

    asyncio.run(check())
    assert entity.session.sent == [(contact, "unsubscribed") for contact in ended]
