# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What hypervisors and virtual machines have in common: a login that is kept, presence, requests, contacts."""

from __future__ import annotations

import asyncio
import logging
import typing as t
from xml.etree import ElementTree as ET

from archipel_protocol import errors, jids, namespaces as ns, payloads

from . import dispatch, permissions, xmpp
from .backoff import pauses

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
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
        if grace and self._requests:
            await asyncio.wait(self._requests, timeout=grace)
        requests = list(self._requests)
        for task in requests:
            task.cancel()
        await asyncio.gather(*requests, return_exceptions=True)
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
        else:
            log.info("%s may not see the presence of %s", contact, jids.bare(self.jid))
            session.presence(to=contact, kind="unsubscribed")

    def on_iq(self, session: xmpp.Session, kind: str, sender: str, iq_id: str, payload: ET.Element | None) -> None:
        """Answers a request in a task of its own; the answer goes to whatever session there is by then."""
        task = asyncio.create_task(self._answer(kind, sender, iq_id, payload))
        self._requests.add(task)
        task.add_done_callback(self._requests.discard)

    async def _answer(self, kind: str, sender: str, iq_id: str, payload: ET.Element | None) -> None:
        children: list[ET.Element]
        try:
            result = await self._reply_to(kind, sender, payload)
        except dispatch.UnknownAction:
            children = [_condition("feature-not-implemented", "501")]
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
        """XEP-0199, XEP-0030 and Archipel's own; raises UnknownAction or ArchipelError."""
        if payload is None:
            raise errors.MalformedRequest("a request carries one element")
        if payload.tag == f"{{{ns.PING}}}ping" and kind == "get":
            return None
        if payload.tag == f"{{{ns.DISCO_INFO}}}query" and kind == "get" and not payload.get("node"):
            return self._disco_info()
        if not payload.tag.startswith("{archipel:"):
            raise dispatch.UnknownAction
        return await dispatch.answer(self, self.agent.permissions, sender, payload)

    def _disco_info(self) -> ET.Element:
        query = ET.Element(f"{{{ns.DISCO_INFO}}}query")
        category, kind = self.identity
        ET.SubElement(query, f"{{{ns.DISCO_INFO}}}identity", {"category": category, "type": kind, "name": self.name})
        spoken = {one.namespace for one in dispatch.handlers(self.kind)}
        for feature in sorted({ns.DISCO_INFO, ns.PING} | spoken):
            ET.SubElement(query, f"{{{ns.DISCO_INFO}}}feature", {"var": feature})
        return query


def _condition(name: str, code: str) -> ET.Element:
    """An <error/> with one of XMPP's own conditions (RFC 6120, 8.3.3)."""
    element = ET.Element("error", {"type": "cancel", "code": code})
    ET.SubElement(element, f"{{{ns.STANZAS}}}{name}")
    return element
