# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The only file that knows slixmpp, from 1.8 (Debian 12) to 1.17: connection and login of a session (xmpp.py)."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import hashlib
import inspect
import logging
import os
import ssl
import typing as t
from asyncio import sslproto
from xml.etree import ElementTree as ET

import slixmpp
from slixmpp.util.sasl import mechanisms

from archipel_protocol import streams

log = logging.getLogger(__name__)

# Without channel binding: Python offers none for TLS 1.3 (RFC 9266). PLAIN would show the password to the server.
MECHANISMS = {"SCRAM-SHA-512", "SCRAM-SHA-256", "SCRAM-SHA-1"}


@dataclasses.dataclass(frozen=True)
class Server:
    """Where to log in, and whom to trust."""

    domain: str
    host: str
    port: int
    tls: ssl.SSLContext


def tls_context(ca_file: str) -> ssl.SSLContext:
    """A context that trusts the authorities in ``ca_file`` and no other; one serves all sessions."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(ca_file)
    return context


def _salted_password(self: mechanisms.SCRAM, text: t.Any, salt: bytes, iterations: int) -> bytes:
    """SCRAM's Hi() (RFC 5802, 2.2) in C: slixmpp's loop of Python costs 10 ms a login."""
    secret = text if isinstance(text, bytes) else str(text).encode()
    return hashlib.pbkdf2_hmac(self.hash_name.replace("-", "").lower(), secret, salt, iterations)


mechanisms.SCRAM.Hi = _salted_password


# Each TLS connection of asyncio holds a buffer of that size, and each read allocates another: 256 KiB unless told
# otherwise, which is three quarters of what a session costs. A TLS record has 16 KiB at most (RFC 8446, 5.1).
TLS_BUFFER = 16384
sslproto.SSLProtocol.max_size = TLS_BUFFER


class Client(slixmpp.ClientXMPP):
    """slixmpp's client with our trust, and without its ways to go elsewhere.

    ``take`` is called with each element that comes by TLS; what it returns False for is slixmpp's. Where the server
    offers no TLS, the event "unprotected" comes, and nothing is sent.
    """

    def __init__(self, server: Server, jid: str, password: str, take: t.Callable[[ET.Element], bool]) -> None:
        options: dict[str, t.Any] = {}
        if _takes_context():
            options["ssl_context"] = server.tls
        super().__init__(jid, password, **options)
        self._server = server
        self._take = take
        self.ssl_context = server.tls
        self.plugin["feature_mechanisms"].use_mechs = set(MECHANISMS)
        self.auto_authorize = None
        self.auto_subscribe = False
        self.default_port = server.port  # 1.8 asks for the port here
        self.whitespace_keepalive = False  # the kernel does it, see _keep_alive
        # 1.10 and later
        self.enable_direct_tls = False
        self.enable_plaintext = False

    def get_ssl_context(self) -> ssl.SSLContext:
        """Ours; 1.8 would add the system's authorities to it."""
        return self._server.tls

    def _handle_stream_error(self, error: t.Any) -> None:
        """No redirection: see-other-host may come before TLS, from anybody."""
        self.event("stream_error", error)

    def _spawn_event(self, xml: ET.Element) -> None:
        """Past slixmpp's stanzas and handlers, which take four times as long as all that the agent does."""
        if not streams.is_encrypted(self.transport):
            self._take_unprotected(xml)
            return
        try:
            taken = self._take(xml)
        except Exception:
            # It would end the connection.
            log.exception("a stanza for %s is lost", self.boundjid)
            return
        if not taken:
            super()._spawn_event(xml)

    def _take_unprotected(self, xml: ET.Element) -> None:
        try:
            counts = streams.before_tls(xml)
        except ValueError:
            self.event("unprotected")
            return
        if counts is not None:
            super()._spawn_event(counts)

    def start(self) -> None:
        """Begins to connect."""
        if "address" in inspect.signature(slixmpp.ClientXMPP.connect).parameters:
            self.connect((self._server.host, self._server.port))
        else:
            self.connect(self._server.host, self._server.port)

    async def get_dns_records(self, domain: str, port: int | None = None) -> list[t.Any]:
        """None: the host is given. 1.8 would ask for it twice a login, in threads, and where it is an address for the
        domain."""
        return []

    def connection_made(self, transport: asyncio.BaseTransport, **options: t.Any) -> None:
        """The certificate must be the domain's (RFC 6120, 13.7.2). 1.8 would take the host's, and earlier than now it
        would go to where the domain is instead of to the host."""
        self.default_domain = self._server.domain
        super().connection_made(transport, **options)


@functools.lru_cache(maxsize=None)
def _takes_context() -> bool:
    """Whether slixmpp takes a TLS context. Else its constructor reads the system's authorities for each session:
    40 ms and 1 MiB, for a context that is thrown away; so let it find none."""
    if "ssl_context" in inspect.signature(slixmpp.xmlstream.XMLStream.__init__).parameters:
        return True
    os.environ["SSL_CERT_FILE"] = os.environ["SSL_CERT_DIR"] = os.devnull
    return False
