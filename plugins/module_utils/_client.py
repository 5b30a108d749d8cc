# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The platform as a module sees it: one login a task, requests pipelined, plain calls that return when all is answered.

Private to this collection; it may change without notice. Shape::

    with Client(options(module.params)) as client:
        nodes = client.hypervisors()
        reply = client.send(Request("pubsub.example.com", query, kind="get"))
        replies = client.gather([Request(...), Request(...)])
"""

from __future__ import annotations

import asyncio
import types
import typing as t
from xml.etree import ElementTree as ET

from . import _xmpp
from ._connection import Options
from ._errors import InvalidSpec, NoAnswer, StanzaError
from .archipel_protocol import jids, namespaces as ns
from .archipel_protocol.errors import ArchipelError

# The group of the account's roster (RFC 6121, 2.1.2.4) that holds the platform's hypervisors.
HYPERVISORS = "hypervisors"
# What a server answers for a full JID that has no session (RFC 6121, 8.5.3.2.3; RFC 6120, 8.3.3.13).
OFFLINE = frozenset(("service-unavailable", "recipient-unavailable"))


class Request(t.NamedTuple):
    """An <iq/>. ``to`` None: the account itself; ``timeout`` in seconds, None: the connection's."""

    to: str | None
    payload: ET.Element
    kind: str = "set"
    timeout: float | None = None


# A request that was sent.
Pending = t.Any  # asyncio.Task, which Python 3.8 cannot subscribe


class Client:
    """A context manager that holds one session. Every method may raise the errors of Session.ask."""

    def __init__(self, options: Options) -> None:
        if not jids.node(options.jid) or not jids.domain(options.jid):
            raise InvalidSpec([f"jid: '{options.jid}' is not of the form user@domain"])
        self.options = options
        self.domain = jids.domain(options.jid)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._session: t.Any = None

    def __enter__(self) -> Client:
        _xmpp.require_slixmpp()
        self._loop = asyncio.new_event_loop()
        try:
            self._loop.run_until_complete(self._login())
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: types.TracebackType | None,
    ) -> None:
        self._close()

    def send(self, request: Request) -> ET.Element | None:
        """The child of the answer, None if it has none."""
        answer = self.gather([request])[0]
        if isinstance(answer, ArchipelError):
            raise answer
        return answer

    def begin(self, request: Request) -> Pending:
        """Sends a request without waiting for the answer, which ``finished`` has."""
        if self._loop is None:
            raise RuntimeError("Client is used outside of its with block")
        return self._loop.create_task(self._ask(request))

    def finished(self, begun: t.Collection[Pending]) -> set[Pending]:
        """Waits until one of ``begun`` is answered; all that are. ``result()`` of each is as gather() has it."""
        done, dummy = self._run(asyncio.wait(begun, return_when=asyncio.FIRST_COMPLETED))
        return t.cast("set[Pending]", done)

    def gather(self, requests: t.Sequence[Request]) -> list[ET.Element | ArchipelError | None]:
        """Sends all requests at once; the answers in their order, an error in the place of one that failed."""
        return self._run(self._gather(requests))

    def beside(self, work: t.Callable[[], t.Coroutine[t.Any, t.Any, None]]) -> None:
        """Begins ``work()``, which goes on while this client waits for answers, and ends with the session."""
        if self._loop is None:
            raise RuntimeError("Client is used outside of its with block")
        self._loop.create_task(work())

    async def asked(self, request: Request) -> ET.Element | ArchipelError | None:
        """As gather() of one request, for what runs beside()."""
        return await self._ask(request)

    def hypervisors(self) -> list[str]:
        """The nodes of the platform's hypervisors, online or not, sorted: a group of the account's roster."""
        roster = self.send(Request(None, ET.Element(f"{{{ns.ROSTER}}}query"), kind="get"))
        item, group = f"{{{ns.ROSTER}}}item", f"{{{ns.ROSTER}}}group"
        return sorted(
            jids.node(entry.get("jid", ""))
            for entry in (() if roster is None else roster.iter(item))
            if any(name.text == HYPERVISORS for name in entry.iter(group))
        )

    async def _login(self) -> None:
        options = self.options
        tls = _xmpp.tls_context(options.ca_file)
        self._session = _xmpp.Session(options.jid, options.password, tls, options.server, options.port)
        await self._session.login(options.timeout)

    async def _gather(self, requests: t.Sequence[Request]) -> list[ET.Element | ArchipelError | None]:
        return list(await asyncio.gather(*map(self._ask, requests)))

    async def _ask(self, request: Request) -> ET.Element | ArchipelError | None:
        timeout = self.options.timeout if request.timeout is None else request.timeout
        work = self._session.ask(request.to, request.payload, request.kind, timeout)
        if request.to is None or timeout <= self.options.timeout:
            # Over before anybody would be missed.
            try:
                return t.cast("ET.Element | None", await work)
            except ArchipelError as exc:
                return exc
        answer = asyncio.ensure_future(work)
        watch = asyncio.ensure_future(self._watch(request.to))
        await asyncio.wait((answer, watch), return_when=asyncio.FIRST_COMPLETED)
        for task in (answer, watch):
            if not task.done():
                task.cancel()
        try:
            return (answer if answer.done() else watch).result()
        except ArchipelError as exc:
            return exc

    async def _watch(self, to: str) -> None:
        """Ends with StanzaError when ``to`` goes away: nobody would answer the request that it took along."""
        while True:
            await asyncio.sleep(self.options.timeout)
            try:
                await self._session.ask(to, ET.Element(f"{{{ns.PING}}}ping"), "get", self.options.timeout)
            except StanzaError as exc:
                if exc.condition in OFFLINE:
                    raise
            except NoAnswer:
                continue  # busy, or gone in a way that the server will notice

    def _run(self, work: t.Coroutine[t.Any, t.Any, t.Any]) -> t.Any:
        if self._loop is None:
            work.close()
            raise RuntimeError("Client is used outside of its with block")
        return self._loop.run_until_complete(work)

    def _close(self) -> None:
        if self._loop is None:
            return
        if self._session is not None:
            self._loop.run_until_complete(self._session.leave())
        self._loop.close()
        self._loop = self._session = None
