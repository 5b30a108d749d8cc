# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The agent's XMPP adapter against the real server, with whatever slixmpp is installed where this runs."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import sys
import uuid as uuidlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "roles/archipel_agent/files"), str(ROOT / "plugins/module_utils")]

from archipel_agent import xmpp, xmpp_client  # noqa: E402 - the path comes first
from archipel_protocol import errors, namespaces as ns, payloads  # noqa: E402 - as above

PING = f"{{{ns.PING}}}ping"


class Owner:
    """Answers every request with nothing, and remembers who asked for what."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, str]] = []

    def on_iq(self, session, kind, sender, iq_id, payload):
        self.requests.append((kind, sender, payload.tag))
        session.reply(sender, iq_id, None)

    def on_subscription(self, session, kind, sender):
        raise AssertionError("nobody subscribes")


@pytest.fixture
def server(platform):
    tls = xmpp_client.tls_context(platform.ca_file)
    return xmpp_client.Server(platform.domain, platform.address(platform.xmpp), 5222, tls)


@pytest.fixture
def session(platform, server):
    """A session of an account, not logged in yet."""
    return lambda name, owner=None, on=server: xmpp.Session(on, f"{name}@{platform.domain}/test", owner or Owner())


def test_requests_both_ways(platform, session):
    async def run():
        owner = Owner()
        one, other = session("automation", owner), session("admin")
        for name, each in (("automation", one), ("admin", other)):
            await each.login(platform.password(name))
        ping = payloads.ET.Element(PING)
        assert await other.request(one.jid, ping, "get") is None
        assert owner.requests == [("get", other.jid, PING)]
        info = payloads.ET.Element(f"{{{ns.DISCO_INFO}}}query")
        assert (await other.request(platform.domain, info, "get")).tag == info.tag
        with pytest.raises(xmpp.Unreachable, match="service-unavailable"):
            await other.request(one.jid + "-gone", ping, "get")
        one.close()
        other.close()
        assert not one.connected
        with pytest.raises(xmpp.Unreachable, match="is not connected"):
            await one.request(other.jid, ping)
        assert await one.ended() == "closed"
        await asyncio.sleep(0.1)

    asyncio.run(run())


def test_errors_of_the_agent_are_understood(platform, session):
    async def run():
        automation = session("automation")
        await automation.login(platform.password("automation"))
        host = platform.hypervisors[0]
        with pytest.raises(errors.PermissionDenied, match="lacks the permission 'peer'") as raised:
            await automation.request(f"{host}@{platform.domain}/{host}", payloads.request(ns.HANDOVER, "query"))
        assert raised.value.code == errors.CODE_PERMISSION
        automation.close()
        await asyncio.sleep(0.1)

    asyncio.run(run())


@pytest.mark.parametrize("name", ["automation", "nobody"])
def test_a_wrong_password_is_told_and_never_sent_in_clear(session, name):
    async def run():
        with pytest.raises(xmpp.NotAuthorized, match=f"refuses the password of {name}@"):
            await session(name).login("wrong")

    asyncio.run(run())


def test_another_authority_is_not_trusted(platform, session, tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "ca.pem"
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the other authority")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=other"
    subprocess.run([*command.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)
    address = platform.address(platform.xmpp)
    for context, domain in ((certificate, platform.domain), (platform.ca_file, "elsewhere.test")):
        other = xmpp_client.Server(domain, address, 5222, xmpp_client.tls_context(str(context)))

        async def run(other=other):
            with pytest.raises(xmpp.Unreachable, match="certificate|ended"):
                await session("automation", on=other).login("secret")

        asyncio.run(run())


def test_a_server_that_is_not_there_is_told(platform, session, server):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    nowhere = xmpp_client.Server(platform.domain, "127.0.0.1", port, server.tls)

    async def run():
        with pytest.raises(xmpp.Unreachable, match=f"127.0.0.1:{port}"):
            await session("automation", on=nowhere).login("secret")

    asyncio.run(run())


def test_registration_elsewhere_than_on_a_hypervisor_is_refused(platform, session):

    async def run():
        hypervisor = session(platform.hypervisors[0])
        await hypervisor.login(platform.password(platform.hypervisors[0]))
        with pytest.raises(errors.ArchipelError):
            await hypervisor.register(str(uuidlib.uuid4()), "secret")
        hypervisor.close()
        await asyncio.sleep(0.1)

    asyncio.run(run())


def test_a_machine_changes_its_password_and_removes_itself(session, machine):
    name, password = machine

    async def run():
        first = session(name)
        await first.login(password)
        await first.change_password("another")
        first.close()
        with pytest.raises(xmpp.NotAuthorized):
            await session(name).login(password)
        last = session(name)
        await last.login("another")
        await last.remove_account()
        assert "User removed" in await last.ended()
        with pytest.raises(xmpp.NotAuthorized):
            await session(name).login("another")

    asyncio.run(run())
