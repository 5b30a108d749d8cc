# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""From a request to its handler and back: the only place where a permission is checked.

A capability is a module that declares its handlers::

    @handler(ns.VM_CONTROL, "create", "create", on="vm")
    async def create(entity: VirtualMachineEntity, request: Request) -> Reply: ...

and that agent.CAPABILITIES names.
"""

from __future__ import annotations

import dataclasses
import logging
import re
import typing as t
from xml.etree import ElementTree as ET

from archipel_protocol import errors, jids, payloads

from .denials import Denials
from .permissions import Permissions

log = logging.getLogger(__name__)

# What a handler returns: the children, or the text, of the reply's <query/>.
Reply = t.Union[t.Iterable[ET.Element], str, None]
Function = t.Callable[[t.Any, "Request"], t.Awaitable[Reply]]
H = t.TypeVar("H", bound=Function)


@dataclasses.dataclass(frozen=True)
class Request:
    """One <archipel/> of one sender; ``sender`` is the full JID that the server stamped."""

    sender: str
    entity: str  # bare JID of who is asked
    namespace: str
    action: str
    element: ET.Element
    permissions: Permissions

    @property
    def attributes(self) -> dict[str, str]:
        """The attributes of <archipel/>."""
        return dict(self.element.attrib)

    @property
    def text(self) -> str:
        """The text of <archipel/>."""
        return self.element.text or ""

    def child(self, name: str) -> ET.Element | None:
        """The first child called ``name``, whatever its namespace."""
        return next(iter(self.children(name)), None)

    def children(self, name: str) -> list[ET.Element]:
        """All children called ``name``, whatever their namespace."""
        return [child for child in self.element if payloads.split_tag(child.tag)[1] == name]

    def number(self, name: str, lowest: int, highest: int | None = None) -> int:
        """The whole number in an attribute; raises MalformedRequest."""
        text = self.element.get(name)
        right = f"from {lowest} to {highest}" if highest is not None else f"of at least {lowest}"
        if text is None:
            raise errors.MalformedRequest(f"{self.action} needs the attribute {name}, a whole number {right}")
        # Longer ones are none that anything here could be, and Python refuses to read the longest.
        value = int(text) if re.fullmatch(r"[0-9]{1,18}", text) else -1
        if value < lowest or (highest is not None and value > highest):
            raise errors.MalformedRequest(f"{name} is '{text}' and must be a whole number {right}")
        return value

    def permits(self, permission: str, entity: str | None = None) -> bool:
        """Whether the sender has a permission that depends on the request's content, like host_access.

        ``entity`` is a bare JID, None: who is asked.
        """
        return self.permissions.permits(self.sender, permission, self.entity if entity is None else entity)


@dataclasses.dataclass(frozen=True)
class Handler:
    """A declared action: ``code`` is the error code where the handler fails in an unforeseen way."""

    namespace: str
    action: str
    permission: str
    on: str
    code: int
    reads: bool
    function: Function


class UnknownAction(Exception):
    """Nobody handles the request; the answer is XMPP's feature-not-implemented."""


_HANDLERS: dict[tuple[str, str, str], Handler] = {}
_DENIED = Denials()


def handler(
    namespace: str, action: str, permission: str, on: str, code: int = errors.CODE_MALFORMED, reads: bool = False
) -> t.Callable[[H], H]:
    """Declares a coroutine function as the handler of an action ``on`` "hypervisor" or "vm".

    ``reads``: it changes nothing, so that nobody needs to find it in the log.
    """

    def declare(function: H) -> H:
        key = (on, namespace, action)
        if key in _HANDLERS:
            raise ValueError(f"{namespace} {action} is declared twice on {on}")
        _HANDLERS[key] = Handler(namespace, action, permission, on, code, reads, function)
        return function

    return declare


def handlers(on: str | None = None) -> list[Handler]:
    """The declared handlers, of one kind of entity or of all."""
    return [one for one in _HANDLERS.values() if on in (None, one.on)]


def allowed(entity: t.Any, permissions: Permissions, sender: str) -> list[Handler]:
    """The handlers of an entity that ``sender`` may use."""
    bare = jids.bare(entity.jid)
    return [one for one in handlers(entity.kind) if permissions.permits(sender, one.permission, bare)]


async def answer(entity: t.Any, permissions: Permissions, sender: str, query: ET.Element) -> ET.Element:
    """The reply's <query/> to a request that came as an <iq/>, whose child is ``query``; raises as perform() does."""
    namespace, action, element = payloads.parse_request(query)
    content = await perform(entity, permissions, sender, namespace, action, element)
    if content is None or isinstance(content, str):
        return payloads.reply(namespace, text=content)
    return payloads.reply(namespace, content)


def permitted(entity: t.Any, permissions: Permissions, sender: str, namespace: str, action: str) -> Handler:
    """The handler of an action that ``sender`` may have done; raises PermissionDenied or UnknownAction."""
    found = _HANDLERS.get((entity.kind, namespace, action))
    if found is None:
        raise UnknownAction
    bare = jids.bare(entity.jid)
    if not permissions.permits(sender, found.permission, bare):
        note_denial(sender, f"{sender} was denied {namespace} {action} on {entity.jid}")
        raise errors.PermissionDenied(f"{jids.bare(sender)} lacks the permission '{found.permission}' on {bare}")
    return found


def note_denial(sender: str, text: str) -> None:
    """Writes to the log that ``sender`` was denied something, unless he has been too often."""
    _DENIED.note(sender, text)


async def perform(
    entity: t.Any, permissions: Permissions, sender: str, namespace: str, action: str, element: ET.Element
) -> Reply:
    """Does an action if ``sender`` may have it done: for every <iq/>, chat word and ad-hoc command alike.

    ``entity.kind`` is "hypervisor" or "vm"; ``element`` is the <archipel/>. Raises ArchipelError or UnknownAction.
    """
    found = permitted(entity, permissions, sender, namespace, action)
    bare = jids.bare(entity.jid)
    level = logging.DEBUG if found.reads else logging.INFO
    log.log(level, "%s asks %s for %s %s", sender, entity.jid, namespace, action)
    try:
        return await found.function(entity, Request(sender, bare, namespace, action, element, permissions))
    except errors.ArchipelError as fault:
        log.info("%s %s of %s failed: %s", namespace, action, sender, fault.message)
        raise
    except Exception as exc:
        log.exception("%s %s of %s failed", namespace, action, sender)
        # The text of an unforeseen exception may hold anything, so it stays in the log.
        message = f"{action} failed inside the agent ({type(exc).__name__}); its log has more"
        raise errors.ArchipelError(message, found.code) from exc
