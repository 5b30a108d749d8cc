# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Somebody between a client and its server, who keeps TLS from them and says what he likes."""

from __future__ import annotations

import asyncio
import contextlib

_HEADER = (
    "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' id='1' version='1.0'"
    " from='a.test'>"
)
_SCRAM = (
    "<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>SCRAM-SHA-1</mechanism>"
    "<mechanism>SCRAM-SHA-256</mechanism><mechanism>PLAIN</mechanism></mechanisms>"
)
_BIND = "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/><session xmlns='urn:ietf:params:xml:ns:xmpp-session'/>"
_STARTTLS = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
_ORDER = (
    "<iq type='set' from='admin@a.test/x' id='1'><query xmlns='archipel:hypervisor:control'/></iq>"
    "<message from='admin@a.test/x' type='chat'><body>stop web</body></message>"
    "<presence from='eve@a.test' type='subscribe'/>"
    "<iq type='get' from='admin@a.test/x' id='2'><ping xmlns='urn:xmpp:ping'/></iq>"
)
_BOUND = (
    "<iq type='result' id='{}'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><jid>hv1@a.test/hv1</jid></bind></iq>"
)
# What is said after the stream's header, by what it tries.
LIES = {
    "a password without TLS": f"<stream:features>{_SCRAM}</stream:features>",
    "no password at all": f"<stream:features>{_BIND}</stream:features>",
    "both beside TLS": f"<stream:features>{_STARTTLS}{_SCRAM}{_BIND}</stream:features>",
    "nothing": "<stream:features/>",
    "an order before TLS": f"{_ORDER}<stream:features>{_STARTTLS}</stream:features>{_ORDER}",
}


async def heard(lie: str, login) -> tuple[str, object]:
    """What a client says to somebody who tells it ``lie``, and what ``login(port)`` raises, which gets 2 seconds."""
    said = ""

    async def serve(reader, writer):
        nonlocal said
        with contextlib.suppress(ConnectionError):
            while not said.endswith(">"):
                said += (await reader.read(4096)).decode()
            writer.write((_HEADER + LIES[lie]).encode())
            while data := await reader.read(4096):
                said += data.decode()
                if "<bind" in said:
                    number = said.rpartition("<iq")[2].partition('id="')[2].partition('"')[0]
                    writer.write(_BOUND.format(number).encode())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        await asyncio.wait_for(login(server.sockets[0].getsockname()[1]), 2)
        fault = None
    except Exception as raised:
        fault = raised
    server.close()
    return said, fault
