# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What hypervisors and virtual machines have in common: a login that is kept, presence, requests, contacts."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import typing as t
from xml.etree import ElementTree as ET

from archipel_protocol import errors, jids, namespaces as ns, payloads

from . import adhoc, chat, dispatch, gate, permissions, services, xmpp
from .backoff import pauses
from .endings import end

if t.TYPE_CHECKING:
    from .agent import Agent

log = logging.getLogger(__name__)

# An entity that was online for this many seconds starts again with a short pause.
SETTLED = 60.0


class Entity:
    """One JID, and the session that is kept for it.

    ``kind`` is "hypervisor" or "vm"; ``jid`` is the full JID. Subclasses say how to log in.
    """

    kind = ""
    # Largest pause between two attempts to log in, in seconds.
    patience = 30.0
    identity = ("automation", "device")  # category and type of XEP-0030

    def __init__(self, agent: Agent, jid: str, name: str) -> None:
        self.agent = agent
        self.jid = jid
        self.name = name
        self.session: xmpp.Session | None = None
        self.online = asyncio.Event()
        self._shown: tuple[str, str] = ("", "")
        self._keeper: asyncio.Task[None] | None = None
        self._requests: set[asyncio.Task[None]] = set()
        self._failure = ""

    def start(self) -> None:
        """Begins to log in, for ever."""
        self._keeper = asyncio.create_task(self._keep_online(), name=f"login of {self.jid}")

    async def stop(self, grace: float = 0.0) -> None:
        """Ends the session, and the requests that are being handled; these have ``grace`` seconds to be answered."""
        if self._keeper is not None:
            await end([self._keeper])
        if grace and self._requests:
            await asyncio.wait(self._requests, timeout=grace)
        await end(self._requests)
        self._drop_session("stopped")

    @property
    def releasing(self) -> bool:
        """Whether its account is being removed."""
        return False

    @property
    def shown(self) -> tuple[str, str]:
        """(show, status) of the presence."""
        return self._shown

    def show(self, show: str, status: str) -> None:
        """Sets the presence; it is sent where it changed, and at each login."""
        if (show, status) == self._shown:
            return
        self._shown = (show, status)
        if self.session is not None:
            self.session.presence(show, status)

    async def login(self) -> xmpp.Session:
        """A session that is logged in; raises ArchipelError. Subclasses know the password."""
        raise NotImplementedError

    async def on_login(self, session: xmpp.Session) -> None:
        """Called after each login, before the entity counts as online."""

    async def _keep_online(self) -> None:
        wait = pauses(first=0.5, largest=self.patience)
        loop = asyncio.get_running_loop()
        while True:
            try:
                session = self.session = await self.login()
                await self.on_login(session)
            except errors.ArchipelError as fault:
                self._drop_session("login failed")
                self._report(fault.message)
                await asyncio.sleep(next(wait))
                continue
            except Exception:
                # A fault of ours or of slixmpp's; to give up would leave the entity offline until the next start.
                log.exception("the login of %s failed", jids.bare(self.jid))
                self._drop_session("login failed")
                await asyncio.sleep(next(wait))
                continue
            self._failure = ""
            log.info("%s is online", jids.bare(self.jid))
            session.presence(*self._shown)
            self.online.set()
            self.agent.pushes.on_login(self)
            self.agent.profiles.check(self)
            self.agent.contacts.check(self)
            since = loop.time()
            reason = await session.ended()
            self._drop_session(reason)
            level = logging.INFO if self.releasing else logging.WARNING
            log.log(level, "%s is offline: %s", jids.bare(self.jid), reason)
            if loop.time() - since > SETTLED:
                wait = pauses(first=0.5, largest=self.patience)
            await asyncio.sleep(next(wait))

    def _report(self, failure: str) -> None:
        """Logs what keeps the entity offline, once."""
        if failure != self._failure:
            log.warning("%s is offline: %s", jids.bare(self.jid), failure)
        self._failure = failure

    def _drop_session(self, reason: str) -> None:
        self.online.clear()
        session, self.session = self.session, None
        if session is not None:
            session.close(reason)

    def on_subscription(self, session: xmpp.Session, kind: str, sender: str) -> None:
        """Who holds the permission ``presence`` may see it (RFC 6121, 3.1)."""
        contact = jids.bare(sender)
        if kind == "unsubscribe":
            session.presence(to=contact, kind="unsubscribed")
        elif self.agent.permissions.permits(contact, permissions.PRESENCE, jids.bare(self.jid)):
            session.presence(to=contact, kind="subscribed")
            self.agent.pushes.check_readers(self)
        else:
            dispatch.note_denial(contact, f"{contact} may not see the presence of {jids.bare(self.jid)}")
            session.presence(to=contact, kind="unsubscribed")

    def on_iq(self, session: xmpp.Session, kind: str, sender: str, iq_id: str, payload: ET.Element | None) -> None:
        """Answers a request in a task of its own; the answer goes to whatever session there is by then."""
        try:
            size = 0 if payload is None else payloads.wire_size(payload)
            self._work(sender, size, self._answer, kind, sender, iq_id, payload)
        except errors.MalformedRequest as fault:
            session.refuse(sender, iq_id, [_condition("modify", "bad-request", fault.message)])
        except gate.Busy as fault:
            session.refuse(sender, iq_id, [_condition("wait", "resource-constraint", str(fault))])

    def on_message(self, session: xmpp.Session, element: ET.Element) -> None:
        """Answers what a person says; who is too quick is told so, and then not answered at all."""
        config, now = self.agent.config, asyncio.get_running_loop().time()
        message = chat.hear(element, self.agent.domain, {self.agent.node, *config.peers})
        if message is None:
            return
        if self.agent.chat.too_quick(message, now):
            if self.agent.chat.complains(message):
                session.message(message.sender, chat.TOO_QUICK, message.kind, message.thread)
            return
        with contextlib.suppress(gate.Busy):
            self._work(message.sender, len(message.text), self._converse, message, now)

    def _work(self, sender: str, size: int, work: t.Callable[..., t.Awaitable[None]], *args: t.Any) -> None:
        """Runs ``work`` when it is the sender's turn; raises gate.Busy."""
        turns = self.agent.gate.enter(sender, self.jid, size)

        async def turn() -> None:
            async with gate.turn(turns):
                await work(*args)

        def done(task: asyncio.Task[None]) -> None:
            self.agent.gate.leave(sender, size)
            self._requests.discard(task)

        task = asyncio.create_task(turn())
        self._requests.add(task)
        task.add_done_callback(done)

    async def _converse(self, message: chat.Message, now: float) -> None:
        text = await self.agent.chat.answer(self, message, now)
        if text and self.session is not None:
            self.session.message(message.sender, text, message.kind, message.thread)

    async def _answer(self, kind: str, sender: str, iq_id: str, payload: ET.Element | None) -> None:
        children: list[ET.Element]
        try:
            result = await self._reply_to(kind, sender, payload)
            if result is not None:
                payloads.check_size(result, "the answer")
        except dispatch.UnknownAction:
            children = [_condition("cancel", "feature-not-implemented")]
        except adhoc.Refused as fault:
            children = [_condition(fault.kind, fault.condition, fault.text, fault.detail)]
        except errors.ArchipelError as fault:
            namespace = payloads.split_tag(payload.tag)[0] if payload is not None else ""
            children = [payloads.reply(namespace)] if namespace else []
            children.append(payloads.error(fault))
        else:
            if self.session is not None:
                self.session.reply(sender, iq_id, result)
            return
        if self.session is not None:
            self.session.refuse(sender, iq_id, children)

    async def _reply_to(self, kind: str, sender: str, payload: ET.Element | None) -> ET.Element | None:
        """Archipel's own, or a service; raises UnknownAction, adhoc.Refused or ArchipelError."""
        if payload is None:
            raise errors.MalformedRequest("a request carries one element")
        if payload.tag.startswith("{archipel:"):
            return await dispatch.answer(self, self.agent.permissions, sender, payload)
        return await services.answer(self, kind, sender, payload)


# The codes of XEP-0086, which Archipel's client reads.
_CODES = {
    "bad-request": "400",
    "feature-not-implemented": "501",
    "forbidden": "403",
    "item-not-found": "404",
    "resource-constraint": "500",
}


def _condition(kind: str, name: str, text: str = "", detail: str = "") -> ET.Element:
    """An <error/> with one of XMPP's own conditions (RFC 6120, 8.3.3); ``detail`` is one of XEP-0050's."""
    element = ET.Element("error", {"type": kind, "code": _CODES[name]})
    ET.SubElement(element, f"{{{ns.STANZAS}}}{name}")
    if text:
        ET.SubElement(element, f"{{{ns.STANZAS}}}text").text = text
    if detail:
        ET.SubElement(element, f"{{{ns.COMMANDS}}}{detail}")
    return element
