# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""A session on the XMPP server.

A Session is one login, used once. It carries plain xml.etree elements, and no plugin of slixmpp beyond those that log
in: what the agent says is small enough to be said in elements.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import secrets
import socket
import typing as t
from xml.etree import ElementTree as ET

from archipel_protocol import errors, jids, namespaces as ns, payloads, stanzas, streams

from .xmpp_client import Client, Server

log = logging.getLogger(__name__)

# Seconds for one login, and for a server's answer where nothing else is said.
LOGIN_TIMEOUT = 30.0
REPLY_TIMEOUT = 30.0

_IQ, _MESSAGE, _PRESENCE = (f"{{{stanzas.CLIENT}}}{name}" for name in ("iq", "message", "presence"))
_BODY, _THREAD, _SHOW, _STATUS = (f"{{{stanzas.CLIENT}}}{name}" for name in ("body", "thread", "show", "status"))
_NICK = f"{{{ns.NICK}}}nick"


class NotAuthorized(errors.ArchipelError):
    """The server refuses the password, or there is no such account; it doesn't say which."""


class Unreachable(errors.ArchipelError):
    """Nobody answers: no server, or nobody online at that address."""


class Conflict(errors.ArchipelError):
    """What was to be made exists: an account, a node."""


class NotFound(errors.ArchipelError):
    """XMPP's item-not-found: there is no such node."""


class Forbidden(errors.ArchipelError):
    """XMPP's forbidden: the server does not let this account do that."""


class Owner(t.Protocol):
    """Whose login a Session is."""

    def on_iq(self, session: Session, kind: str, sender: str, iq_id: str, payload: ET.Element | None) -> None:
        """A request, kind "get" or "set"; to be answered by Session.reply or Session.refuse."""

    def on_message(self, session: Session, element: ET.Element) -> None:
        """A <message/> with a <body/>."""

    def on_subscription(self, session: Session, kind: str, sender: str) -> None:
        """A presence of type "subscribe" or "unsubscribe"."""


class Session:
    """One login of one account, from login() to its end."""

    def __init__(self, server: Server, jid: str, owner: Owner) -> None:
        self.jid = jid
        self._server = server
        self._owner = owner
        self._client: Client | None = None
        loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[None] = loop.create_future()
        self._ended: asyncio.Future[str] = loop.create_future()
        self._stream_error = ""
        self._pending: dict[str, tuple[str, asyncio.Future[ET.Element | None]]] = {}  # receiver and answer, by id

    async def login(self, password: str) -> None:
        """Logs in; raises NotAuthorized or Unreachable. To be called once."""
        client = self._client = Client(self._server, self.jid, password, self._take)
        for event, callback in (
            ("session_start", self._on_start),
            ("failed_all_auth", self._on_refused),
            ("connection_failed", self._on_failed),
            ("ssl_invalid_chain", self._on_certificate),
            ("unprotected", self._on_unprotected),
            ("stream_error", self._on_stream_error),
            ("disconnected", self._on_disconnected),
            ("message", self._on_message),
            ("presence_subscribe", functools.partial(self._on_subscription, "subscribe")),
            ("presence_unsubscribe", functools.partial(self._on_subscription, "unsubscribe")),
        ):
            client.add_event_handler(event, callback)
        client.start()
        try:
            await asyncio.wait_for(asyncio.shield(self._ready), LOGIN_TIMEOUT)
        except asyncio.TimeoutError:
            self.close()
            message = f"{self._where} does not finish the login within {LOGIN_TIMEOUT:g} s"
            raise Unreachable(message) from None
        except BaseException:
            self.close()
            raise

    @property
    def _where(self) -> str:
        return f"{self._server.host}:{self._server.port}"

    @property
    def connected(self) -> bool:
        """Whether it is logged in."""
        ready = self._ready
        return ready.done() and not ready.cancelled() and ready.exception() is None and not self._ended.done()

    @property
    def local_address(self) -> str:
        """The address of this host that the server is reached from; empty where there is no connection."""
        transport = self._client.transport if self._client is not None else None
        name = transport.get_extra_info("sockname") if transport is not None else None
        return str(name[0]) if name else ""

    async def ended(self) -> str:
        """Waits for the end of the session and returns why."""
        return await asyncio.shield(self._ended)

    def close(self, reason: str = "closed") -> None:
        """Ends the session at once."""
        client, self._client = self._client, None
        if client is not None:
            client.cancel_connection_attempt()
            # Not client.abort(): it closes and aborts, and Python 3.11's TLS transport cannot be aborted once closed.
            transport = client.transport
            if transport is not None and not transport.is_closing():
                client.send_raw("</stream:stream>")
                transport.close()
            # slixmpp leaves its sender running for a later connect(); there is none.
            if client._run_out_filters is not None:
                client._run_out_filters.cancel()
        self._end(reason)

    def reply(self, receiver: str, iq_id: str, payload: ET.Element | None) -> None:
        """Answers a request."""
        self._send_iq("result", receiver, iq_id, [] if payload is None else [payload])

    def refuse(self, receiver: str, iq_id: str, children: t.Iterable[ET.Element]) -> None:
        """Answers a request with an error; ``children`` hold the <error/>."""
        self._send_iq("error", receiver, iq_id, children)

    def presence(
        self, show: str = "", status: str = "", to: str | None = None, kind: str | None = None, nick: str = ""
    ) -> None:
        """Sends a presence; ``show`` "" is plain available, ``nick`` what a contact may call us (XEP-0172)."""
        if not self.connected or self._client is None:
            return
        presence = ET.Element(_PRESENCE, {name: value for name, value in (("to", to), ("type", kind)) if value})
        for name, text in ((_SHOW, show), (_STATUS, status), (_NICK, nick)):
            if text:
                ET.SubElement(presence, name).text = text
        self._write(presence)

    def message(self, receiver: str, text: str, kind: str = "chat", thread: str = "") -> None:
        """Says something."""
        if not self.connected or self._client is None:
            return
        message = ET.Element(_MESSAGE, {"to": receiver, "type": kind, "id": secrets.token_hex(8)})
        ET.SubElement(message, _BODY).text = text
        if thread:
            ET.SubElement(message, _THREAD).text = thread
        self._write(message)

    async def request(
        self, to: str, payload: ET.Element, kind: str = "set", timeout: float = REPLY_TIMEOUT
    ) -> ET.Element | None:
        """The payload of the answer to a request; raises the ArchipelError that it tells of, or Unreachable."""
        try:
            return await asyncio.wait_for(self.ask(to, payload, kind), timeout)
        except asyncio.TimeoutError:
            raise Unreachable(f"{to} does not answer within {timeout:g} s") from None

    def ask(self, to: str, payload: ET.Element, kind: str = "set") -> asyncio.Future[ET.Element | None]:
        """Sends a request at once, after all that was sent before; the future is what request() returns or raises.

        It is done no later than the session; whoever needs the answer by a certain time calls request().
        """
        answer: asyncio.Future[ET.Element | None] = asyncio.get_running_loop().create_future()
        if not self.connected or self._client is None:
            answer.set_exception(Unreachable(f"{jids.bare(self.jid)} is not connected to the XMPP server"))
            return answer
        number = secrets.token_hex(8)
        self._pending[number] = (to, answer)
        answer.add_done_callback(lambda future: self._pending.pop(number, None))
        self._write_iq(kind, to, number, [payload])
        return answer

    async def resources(self) -> set[str]:
        """The resources of all sessions of this account, whether they show a presence or not (XEP-0030, 6)."""
        bare = jids.bare(self.jid)
        items = await self.request(bare, ET.Element(f"{{{ns.DISCO_ITEMS}}}query"), kind="get")
        found = () if items is None else items.iter(f"{{{ns.DISCO_ITEMS}}}item")
        addresses = [item.get("jid", "") for item in found if item.get("node") is None]
        return {jids.resource(address) for address in addresses if jids.bare(address) == bare and "/" in address}

    async def register(self, account: str, password: str) -> None:
        """Creates another account of the domain (XEP-0077, 3.1.2); raises Conflict where it exists."""
        await self._register_query({"username": account, "password": password})

    async def change_password(self, password: str) -> None:
        """Sets the password of this account (XEP-0077, 3.3)."""
        await self._register_query({"username": jids.node(self.jid), "password": password})

    async def remove_account(self) -> None:
        """Removes this account (XEP-0077, 3.2); the server may end the session instead of answering."""
        try:
            await self._register_query({"remove": ""})
        except Unreachable:
            # ejabberd says conflict, "User removed"; XEP-0077 itself not-authorized.
            if not self._ended.done() or self._stream_error not in ("conflict", "not-authorized"):
                raise

    async def _register_query(self, fields: t.Mapping[str, str]) -> None:
        query = ET.Element(f"{{{ns.REGISTER}}}query")
        for name, value in fields.items():
            ET.SubElement(query, f"{{{ns.REGISTER}}}{name}").text = value or None
        await self.request(self._server.domain, query)

    def _send_iq(self, kind: str, receiver: str, iq_id: str, children: t.Iterable[ET.Element]) -> None:
        if not self.connected or self._client is None:
            log.info("the answer to %s is lost, the session has ended", receiver)
            return
        self._write_iq(kind, receiver, iq_id, children)

    def _write_iq(self, kind: str, receiver: str, number: str, children: t.Iterable[ET.Element]) -> None:
        iq = ET.Element(_IQ, {"type": kind, "to": receiver, "id": number})
        iq.extend(children)
        self._write(iq)

    def _write(self, stanza: ET.Element) -> None:
        """To the connection at once, not by slixmpp's queue: each stanza would wait for a turn of the loop, or two."""
        client = self._client
        if client is not None and client.transport is not None and not client.transport.is_closing():
            client.send_raw(stanzas.written(stanza))

    def _keep_alive(self) -> None:
        """Has the kernel find out that the server is gone: no traffic and no timer of ours for a quiet session."""
        transport = self._client.transport if self._client is not None else None
        raw = transport.get_extra_info("socket") if transport is not None else None
        if raw is None:
            return
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 60000)  # milliseconds

    def _on_start(self, event: object) -> None:
        bound = str(self._client.boundjid) if self._client is not None else ""
        if self._client is None or not streams.is_encrypted(self._client.transport):
            self._on_unprotected(event)
        elif bound != self.jid:
            self._fail(Unreachable(f"the server bound {bound} instead of {self.jid}"))
        elif not self._ready.done():
            self._keep_alive()
            self._ready.set_result(None)

    def _on_refused(self, event: object) -> None:
        self._fail(NotAuthorized(f"the XMPP server refuses the password of {jids.bare(self.jid)}"))

    def _on_failed(self, reason: object) -> None:
        self._fail(Unreachable(f"{self._where}: {reason}"))

    def _on_certificate(self, reason: object) -> None:
        self._fail(Unreachable(f"the certificate of {self._where} is not valid for {self._server.domain}: {reason}"))

    def _on_unprotected(self, event: object) -> None:
        self._fail(Unreachable(f"{self._where} offers no STARTTLS, and nothing less is used"))

    def _on_stream_error(self, error: t.Any) -> None:
        self._stream_error = error["condition"]
        self._end(f"the XMPP server ended the session: {error['condition']} {error['text'] or ''}".strip())

    def _on_disconnected(self, reason: object) -> None:
        self._end(f"the connection to {self._where} ended: {reason or 'by the server'}")

    def _fail(self, fault: errors.ArchipelError) -> None:
        if not self._ready.done():
            self._ready.set_exception(fault)

    def _end(self, reason: str) -> None:
        if not self._ended.done():
            self._ended.set_result(reason)
        self._fail(Unreachable(reason))
        for dummy, answer in list(self._pending.values()):
            if not answer.done():
                answer.set_exception(Unreachable(reason))

    def _take(self, stanza: ET.Element) -> bool:
        """Whether a stanza is ours and not slixmpp's, which answers the roster pushes, and waits for answers while it
        logs in."""
        if stanza.tag != _IQ or not self.connected:
            return False
        payload = next(iter(stanza), None)
        kind = stanza.get("type")
        if kind in ("result", "error"):
            self._on_answer(stanza, payload)
            return True
        if kind in ("get", "set") and not (payload is not None and payloads.split_tag(payload.tag)[0] == ns.ROSTER):
            self._owner.on_iq(self, kind, stanza.get("from", ""), stanza.get("id", ""), payload)
            return True
        return False

    def _on_answer(self, iq: ET.Element, payload: ET.Element | None) -> None:
        """The server stamps who answers, so an id that was guessed is of no use to anybody else (RFC 6120, 8.1.2.1)."""
        answer = self._pending.get(iq.get("id", ""))
        if answer is None or answer[1].done():
            return
        receiver, future = answer
        sender = iq.get("from", "")
        own = (self._server.domain, jids.bare(self.jid))
        if sender == receiver or (receiver in own and sender in ("", *own)):
            if iq.get("type") == "error":
                future.set_exception(_fault(iq, receiver))
            else:
                future.set_result(payload)

    def _on_message(self, message: t.Any) -> None:
        if self.connected:
            self._owner.on_message(self, message.xml)

    def _on_subscription(self, kind: str, presence: t.Any) -> None:
        if self.connected:
            self._owner.on_subscription(self, kind, str(presence["from"]))


# What is told apart, by XMPP's conditions (RFC 6120, 8.3.3).
_KINDS: dict[str, type[errors.ArchipelError]] = {
    "service-unavailable": Unreachable,
    "recipient-unavailable": Unreachable,
    "conflict": Conflict,
    "item-not-found": NotFound,
    "forbidden": Forbidden,
}


def _fault(iq: ET.Element, to: str) -> errors.ArchipelError:
    """The error of an answer: Archipel's form, or XMPP's (RFC 6120, 8.3)."""
    element = next((child for child in iq if payloads.split_tag(child.tag)[1] == "error"), None)
    if element is None:
        return errors.ArchipelError(f"{to} answers with an error that says nothing")
    told = payloads.parse_error(element)
    if told is not None:
        return told
    condition, text = "undefined-condition", ""
    for child in element:
        name = payloads.split_tag(child.tag)[1]
        if name == "text":
            text = child.text or ""
        else:
            condition = name
    message = f"{to} answers {condition}" + (f": {text}" if text else "")
    return _KINDS.get(condition, errors.ArchipelError)(message)
