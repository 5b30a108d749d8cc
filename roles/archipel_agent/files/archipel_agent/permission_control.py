# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""archipel:permissions and archipel:subscription: who may do what on one entity, and in whose roster it is."""

from __future__ import annotations

import typing as t
from xml.etree import ElementTree as ET

from archipel_protocol import errors, jids, namespaces as ns, permissions as names

from . import contacts, granting
from .dispatch import Function, Reply, Request, handler
from .grants import GROUP, Table
from .permissions import PRESENCE

if t.TYPE_CHECKING:
    from .entity import Entity

_PERMISSION = f"{{{ns.PERMISSIONS}}}permission"
_TRUE = frozenset(("1", "true", "yes", "y", "oui", "o"))
_FALSE = frozenset(("0", "false", "no", "n", "non", ""))


def _everywhere(
    namespace: str, action: str, permission: str, code: int, reads: bool = False
) -> t.Callable[[Function], Function]:
    """Declares a handler on hypervisors and on virtual machines."""

    def declare(function: Function) -> Function:
        for kind in names.KINDS:
            handler(namespace, action, permission, on=kind, code=code, reads=reads)(function)
        return function

    return declare


@_everywhere(ns.PERMISSIONS, "list", "permission_list", errors.CODE_PERMISSION_LIST, reads=True)
async def list_permissions(entity: Entity, request: Request) -> Reply:
    """<permission name default="0" description/>*: all that there are on such an entity."""
    known = names.KINDS[entity.kind]
    return [
        ET.Element(_PERMISSION, {"name": name, "default": "0", "description": known[name]}) for name in sorted(known)
    ]


@_everywhere(ns.PERMISSIONS, "get", "permission_get", errors.CODE_PERMISSION_GET, reads=True)
async def get(entity: Entity, request: Request) -> Reply:
    """<archipel permission_type="user|group" permission_target/> -> <permission name/>*: grants to them, as stored."""
    subject = _subject(request.attributes, errors.CODE_PERMISSION_GET)
    granted = request.permissions.table.of(request.entity)
    return _named(grant.name for grant in granted if grant.subject == subject)


@_everywhere(ns.PERMISSIONS, "getown", names.PERMISSION_GETOWN, errors.CODE_PERMISSION_GET, reads=True)
async def getown(entity: Entity, request: Request) -> Reply:
    """<permission name/>*: all that the sender has here, whatever gives it to them."""
    target = request.attributes.get("permission_target")
    if target and jids.bare(target) != jids.bare(request.sender):
        raise errors.ArchipelError("getown tells of the sender alone", errors.CODE_PERMISSION_GET)
    return _named(request.permissions.held(request.sender, request.entity, names.KINDS[entity.kind]))


@_everywhere(ns.PERMISSIONS, "set", "permission_set", errors.CODE_PERMISSION_SET)
async def set_permissions(entity: Entity, request: Request) -> Reply:
    """<permission permission_type permission_target permission_name permission_value/>*: all of them, or none."""
    _change(entity, request)


@_everywhere(ns.PERMISSIONS, "setown", "permission_setown", errors.CODE_PERMISSION_SET)
async def setown(entity: Entity, request: Request) -> Reply:
    """As set, of the sender's own: who may not give a permission away can drop it."""
    for element in request.children("permission"):
        if _subject(element.attrib) != jids.bare(request.sender):
            raise errors.ArchipelError("setown changes the sender's own permissions alone", errors.CODE_PERMISSION_SET)
    _change(entity, request)


@_everywhere(ns.SUBSCRIPTION, "add", "subscription_add", errors.CODE_SUBSCRIPTION_ADD)
async def add_subscription(entity: Entity, request: Request) -> Reply:
    """<archipel jid/>: grants ``presence`` and asks the person to take the entity into their roster."""
    contact = granting.user(request.attributes.get("jid", ""), errors.CODE_SUBSCRIPTION_ADD)
    added = granting.grant(request.entity, contact, PRESENCE)
    _replace(request, request.permissions.table.grants | {added})
    await contacts.invite(entity, contact)
    entity.agent.pushes.publish(entity, "subscription", "added")


@_everywhere(ns.SUBSCRIPTION, "remove", "subscription_remove", errors.CODE_SUBSCRIPTION_REMOVE)
async def remove_subscription(entity: Entity, request: Request) -> Reply:
    """<archipel jid/>: takes ``presence`` back and leaves the person's roster."""
    contact = granting.user(request.attributes.get("jid", ""), errors.CODE_SUBSCRIPTION_REMOVE)
    removed = granting.grant(request.entity, contact, PRESENCE)
    _replace(request, request.permissions.table.grants - {removed})
    await contacts.leave(entity, contact)
    entity.agent.pushes.publish(entity, "subscription", "removed")


def _subject(attributes: t.Mapping[str, str], code: int = errors.CODE_PERMISSION_SET) -> str:
    kind, target = attributes.get("permission_type", "user"), attributes.get("permission_target", "")
    if kind == "user":
        return granting.user(target, code)
    if kind == "group":
        return GROUP + target
    raise granting.NotGrantable(f"permission_type is '{kind}' and must be user or group", code)


def _change(entity: Entity, request: Request) -> None:
    elements = request.children("permission")
    if not elements:
        raise errors.MalformedRequest(f"{request.action} needs <permission/>")
    grants = request.permissions.table.grants
    known = frozenset(names.KINDS[entity.kind])
    for element in elements:
        one = granting.grant(request.entity, _subject(element.attrib), element.get("permission_name", ""), known)
        grants = grants | {one} if _truth(element.get("permission_value", "")) else grants - {one}
    _replace(request, grants)


def _replace(request: Request, grants: frozenset[t.Any]) -> None:
    table = request.permissions.table
    after = Table(table.roles, table.groups, grants)
    granting.check(request.permissions, request.sender, after)
    request.permissions.replace(after)


def _truth(text: str) -> bool:
    if text.lower() not in _TRUE | _FALSE:
        raise granting.NotGrantable(f"permission_value is '{text}' and must be true or false")
    return text.lower() in _TRUE


def _named(found: t.Iterable[str]) -> list[ET.Element]:
    return [ET.Element(_PERMISSION, {"name": name}) for name in sorted(found)]
