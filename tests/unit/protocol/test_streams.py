# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Of what comes before TLS, only what leads to TLS counts, for agents and for modules."""

from __future__ import annotations

import asyncio
import ssl

import pytest
from ansible_collections.archipel.platform.plugins.module_utils import _xmpp
from unprotected import LIES, heard

pytest.importorskip("slixmpp")

from archipel_agent import xmpp, xmpp_client  # noqa: E402 - they import slixmpp


class Owner:
    """Whose session it is: what he is asked."""

    def __init__(self) -> None:
        self.asked: list[object] = []

    def on_iq(self, *arguments: object) -> None:
        self.asked.append(arguments)

    on_message = on_subscription = on_iq


def of_agent(lie: str) -> tuple[str, object, list[object]]:
    owner = Owner()

    async def login(port: int) -> None:
        server = xmpp_client.Server("a.test", "127.0.0.1", port, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        session = xmpp.Session(server, "hv1@a.test/hv1", owner)
        try:
            await session.login("secret")
        finally:
            session.close()

    return (*asyncio.run(heard(lie, login)), owner.asked)


def of_module(lie: str) -> tuple[str, object, list[object]]:
    async def login(port: int) -> None:
        session = _xmpp.Session("hv1@a.test", "secret", ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), "127.0.0.1", port)
        await session.login(1)

    return (*asyncio.run(heard(lie, login)), [])


@pytest.mark.parametrize("client", [of_agent, of_module], ids=["agent", "module"])
@pytest.mark.parametrize("lie", LIES)
def test_nothing_is_said_or_done_without_tls(client, lie):
    said, fault, asked = client(lie)
    assert fault is not None and asked == []
    after_header = said.partition("version=")[2].partition(">")[2]
    assert after_header.replace("</stream:stream>", "") in (
        "",
        '<starttls xmlns="urn:ietf:params:xml:ns:xmpp-tls" />',
        "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls' />",
    )
    if "starttls" not in LIES[lie]:
        assert "offers no STARTTLS, and nothing less is used" in str(fault)
