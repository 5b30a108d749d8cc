# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""One XMPP session of a module: the only file of the plugins that knows slixmpp, versions 1.8 to 1.17.

Private to this collection; it may change without notice.
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import logging
import os
import ssl
import typing as t
from xml.etree import ElementTree as ET

from ansible.module_utils.basic import missing_required_lib

from . import _errors as errors
from .archipel_protocol import jids, namespaces as ns, payloads, stanzas, streams
from .archipel_protocol.errors import ArchipelError

try:
    from slixmpp.clientxmpp import ClientXMPP
    from slixmpp.util.sasl.client import sasl_mech
    from slixmpp.util.sasl.mechanisms import SCRAM
    from slixmpp.xmlstream import XMLStream

    HAS_SLIXMPP = True
except ImportError:
    HAS_SLIXMPP = False

# Without the -PLUS forms: Python has no channel binding for TLS 1.3 (https://github.com/python/cpython/issues/95341).
MECHANISMS = frozenset(("SCRAM-SHA-512", "SCRAM-SHA-256", "SCRAM-SHA-1"))

# OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH.
_NAME_MISMATCH = 62

_IQ = f"{{{stanzas.CLIENT}}}iq"


def tls_context(ca_file: str | None) -> ssl.SSLContext:
    """Trusts ``ca_file`` and nothing else; the system's authorities if it is None."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca_file is None:
        context.load_default_certs()
        return context
    try:
        context.load_verify_locations(cafile=ca_file)
    except OSError as exc:  # ssl.SSLError is one of them
        reason = "it holds no certificate in PEM form" if isinstance(exc, ssl.SSLError) else exc.strerror
        raise errors.CertificateRefused(f"ca_file: '{ca_file}' cannot be used: {reason}") from None
    return context


def stanza_error(element: ET.Element | None, asked: str) -> ArchipelError:
    """The error inside an <error/>: an agent's own, or one of XMPP's conditions."""
    if element is None:
        return errors.StanzaError(f"{asked}: an error without a reason", "undefined-condition")
    told = payloads.parse_error(element)
    if told is not None:
        return told
    condition, text = "undefined-condition", ""
    for child in element:
        namespace, name = payloads.split_tag(child.tag)
        if name == "text":
            text = child.text or ""
        elif namespace == ns.STANZAS:
            condition = name
    return errors.StanzaError("{}: {}{}".format(asked, condition, f" ({text})" if text else ""), condition)


if HAS_SLIXMPP:
    # A module's stderr is no place for a library's log.
    logging.getLogger("slixmpp").addHandler(logging.NullHandler())
    logging.getLogger("slixmpp").propagate = False

    @sasl_mech(SCRAM.score)
    class _Scram(SCRAM):
        """SCRAM (RFC 5802) with OpenSSL's PBKDF2: slixmpp's own loop in Python costs 10 ms a login."""

        def setup(self, name: str) -> None:
            super().setup(name)
            # slixmpp 1.8 else claims to support channel binding (flag "y"), which a server that offers it must refuse.
            self.credentials["channel_binding"] = b""

        def Hi(self, text: bytes, salt: bytes, iterations: int) -> bytes:
            return hashlib.pbkdf2_hmac(self.hash().name, text, salt, iterations)

    class _Stream(ClientXMPP):
        """slixmpp's client without what it does unasked: other authorities, look-ups, a second attempt."""

        def __init__(self, jid: str, password: str, tls: ssl.SSLContext, server: str | None) -> None:
            # Without a context of ours the newer constructors load the system's authorities: 43 ms.
            takes_context = "ssl_context" in inspect.signature(XMLStream.__init__).parameters
            super().__init__(jid, password, **({"ssl_context": tls} if takes_context else {}))
            self.our_tls = tls
            self.our_server = server
            self.our_requests: dict[str, tuple[str | None, asyncio.Future[ET.Element]]] = {}  # receiver, answer, by id
            self.enable_direct_tls = False
            self.enable_plaintext = False
            self.plugin["feature_mechanisms"].use_mechs = set(MECHANISMS)

        def get_ssl_context(self) -> ssl.SSLContext:
            """Our context as it is: slixmpp 1.8 adds the system's authorities to it."""
            return self.our_tls

        async def get_dns_records(self, domain: str, port: int | None = None) -> list[t.Any]:
            """No look-up of the domain where the server's address was given (slixmpp 1.8 makes one all the same)."""
            return [] if self.our_server else await super().get_dns_records(domain, port)

        def _spawn_event(self, xml: ET.Element) -> None:
            """What came before TLS may be anybody's."""
            if not streams.is_encrypted(self.transport):
                try:
                    counts = streams.before_tls(xml)
                except ValueError:
                    self.event("no_auth")
                    return
                if counts is None:
                    return
                xml = counts
            elif xml.tag == _IQ and xml.get("type") in ("result", "error") and xml.get("id") in self.our_requests:
                # Past slixmpp, which would compare each answer with every request that is under way.
                self._take_answer(xml)
                return
            super()._spawn_event(xml)

        def _take_answer(self, iq: ET.Element) -> None:
            """The server stamps who answers, so an id that was guessed is of no use to others (RFC 6120, 8.1.2.1)."""
            receiver, answer = self.our_requests[iq.get("id", "")]
            sender, own = iq.get("from", "").lower(), (self.boundjid.domain, self.boundjid.bare)
            expected = ("", *own) if receiver is None or receiver in own else (receiver.lower(),)
            if sender in expected and not answer.done():
                answer.set_result(iq)

        def our_request(self, to: str | None, payload: ET.Element, kind: str) -> asyncio.Future[ET.Element]:
            """Sends an <iq/>; the future has its answer."""
            answer: asyncio.Future[ET.Element] = asyncio.get_running_loop().create_future()
            number = self.new_id()
            iq = ET.Element(_IQ, {"type": kind, "id": number, **({"to": to} if to else {})})
            iq.append(payload)
            self.our_requests[number] = (to, answer)
            answer.add_done_callback(lambda done: self.our_requests.pop(number))
            if self.transport is not None:
                self.send_raw(stanzas.written(iq))
            return answer

        def our_end(self, error: ArchipelError) -> None:
            """Nothing is answered any more."""
            for dummy, answer in list(self.our_requests.values()):
                if not answer.done():
                    answer.set_exception(error)

        def reschedule_connection_attempt(self) -> None:
            """One attempt is all: called where slixmpp would start the next one."""
            self.event("our_attempt_failed")


class Session:
    """A client's session. Create it inside of a running loop, then ``await login()``."""

    def __init__(self, jid: str, password: str, tls: ssl.SSLContext, server: str | None, port: int) -> None:
        self._jid = jids.bare(jid)
        self._domain = jids.domain(jid)
        self._server = server
        self._port = port
        self._where = f"the XMPP server {server or self._domain}:{port}"
        self._cause = ""
        loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[None] = loop.create_future()
        self._lost = ""  # why it ended
        self._stream = _Stream(self._jid, password, tls, server)
        for event, handler in (
            ("connection_failed", self._on_connection_failed),
            ("our_attempt_failed", self._on_attempt_failed),
            ("ssl_invalid_chain", self._on_certificate_refused),
            ("failed_auth", self._on_authentication_failed),
            ("no_auth", self._on_no_mechanism),
            ("stream_error", self._on_stream_error),
            ("session_start", self._on_session_start),
            ("disconnected", self._on_disconnected),
        ):
            self._stream.add_event_handler(event, handler)

    async def login(self, timeout: float) -> None:
        """Connects, checks the certificate against the JID's domain, authenticates.

        Raises ServerUnreachable, CertificateRefused or AuthenticationFailed.
        """
        connect = self._stream.connect
        if "address" in inspect.signature(connect).parameters:  # slixmpp before 1.9
            # It asks the resolver for this name and port, and later takes the name for that on the certificate.
            self._stream.default_port = self._port
            self._stream.add_event_handler("connected", self._expect_domain)
            connect(address=(self._server or self._domain, self._port))
        elif self._server or self._port != self._stream.default_port:
            connect(self._server or self._domain, self._port)
        else:
            connect()
        try:
            await asyncio.wait_for(self._ready, timeout)
        except asyncio.TimeoutError:
            raise errors.ServerUnreachable(
                f"{self._where} gave no session within {timeout:g} s (timeout); check server and port"
            ) from None

    async def ask(self, to: str | None, payload: ET.Element, kind: str, timeout: float) -> ET.Element | None:
        """Sends an <iq/> and returns the child of its result; ``kind`` is "get" or "set", ``to`` None the account.

        Raises StanzaError, an agent's ArchipelError, NoAnswer, or ServerUnreachable if the session ends.
        """
        asked = "{} to {}".format(_label(payload), to or "the server")
        try:
            if self._lost:
                raise errors.ServerUnreachable(self._lost)
            reply = await asyncio.wait_for(self._stream.our_request(to, payload, kind), timeout)
        except asyncio.TimeoutError:
            raise errors.NoAnswer(f"{asked}: no answer within {timeout:g} s") from None
        except errors.ServerUnreachable as exc:
            raise errors.ServerUnreachable(f"{asked}: no answer, {exc.message}") from None
        if reply.get("type") == "error":
            raise stanza_error(reply.find(f"{{{stanzas.CLIENT}}}error"), asked)
        return next(iter(reply), None)

    def _expect_domain(self, event: object) -> None:
        self._stream.default_domain = self._domain

    async def leave(self) -> None:
        """Ends the session at once, and every task of it."""
        self._stream.cancel_connection_attempt()
        await self._stream.disconnect(wait=0)
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._ready.done() and not self._ready.cancelled():
            self._ready.exception()  # taken note of, so that asyncio does not report it

    def _fail(self, error: ArchipelError) -> None:
        if not self._ready.done():
            self._ready.set_exception(error)

    def _on_connection_failed(self, cause: t.Any) -> None:
        if isinstance(cause, OSError):
            self._cause = os.strerror(cause.errno) if cause.errno else str(cause)
        else:
            self._cause = "the name is not known to DNS"

    def _on_attempt_failed(self, dummy: t.Any) -> None:
        self._fail(
            errors.ServerUnreachable(
                f"{self._where} cannot be reached: {self._cause}; "
                "check server and port (ARCHIPEL_SERVER, ARCHIPEL_PORT)"
            )
        )

    def _on_certificate_refused(self, exc: ssl.SSLError) -> None:
        reason = getattr(exc, "verify_message", "") or exc.reason or str(exc)
        if getattr(exc, "verify_code", 0) == _NAME_MISMATCH:
            remedy = f"it must name the domain of jid, {self._domain}"
        else:
            remedy = "check ca_file (ARCHIPEL_CA_FILE), it must hold the authority that signed it"
        self._fail(
            errors.CertificateRefused(
                "the certificate of {} is refused: {}; {}".format(self._where, reason.rstrip("."), remedy)
            )
        )

    def _on_authentication_failed(self, stanza: t.Any) -> None:
        self._fail(
            errors.AuthenticationFailed(
                "{} refused the login of {} ({}); check jid and password (ARCHIPEL_JID, ARCHIPEL_PASSWORD)".format(
                    self._where, self._jid, stanza["condition"]
                )
            )
        )

    def _on_no_mechanism(self, dummy: t.Any) -> None:
        lacks = "SCRAM authentication" if "starttls" in self._stream.features else "STARTTLS"
        self._fail(errors.AuthenticationFailed(f"{self._where} offers no {lacks}, and nothing less is used"))

    def _on_stream_error(self, stanza: t.Any) -> None:
        self._cause = ": ".join(part for part in (stanza["condition"], stanza["text"]) if part)
        if stanza["condition"] == "host-unknown":
            self._fail(
                errors.ServerUnreachable(
                    f"{self._where} does not serve the domain of jid, {self._domain}; check jid and server"
                )
            )

    def _on_session_start(self, dummy: t.Any) -> None:
        if not streams.is_encrypted(self._stream.transport):
            self._on_no_mechanism(dummy)
        elif not self._ready.done():
            self._ready.set_result(None)

    def _on_disconnected(self, reason: t.Any) -> None:
        if isinstance(reason, ssl.SSLError):  # slixmpp tells of the certificate only afterwards
            self._on_certificate_refused(reason)
        text = "{} closed the connection ({})".format(self._where, self._cause or reason or "no reason given")
        self._fail(errors.ServerUnreachable(text))
        self._lost = self._lost or text
        self._stream.our_end(errors.ServerUnreachable(text))


def _label(payload: ET.Element) -> str:
    """What a request asks for, in a word: Archipel's action, else the payload's name."""
    archipel = next((child for child in payload if child.get("action")), None)
    return "'%s'" % (payloads.split_tag(payload.tag)[1] if archipel is None else archipel.get("action"))


def require_slixmpp() -> None:
    """Raises LibraryMissing where slixmpp cannot be imported."""
    if not HAS_SLIXMPP:
        raise errors.LibraryMissing(missing_required_lib("slixmpp"))
