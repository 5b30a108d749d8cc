# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""vCards (XEP-0054): how an entity presents itself, and by whose ROLE clients tell hypervisors from machines.

The server holds them; one is sent again only when it has become another. The avatar's hash in presences (XEP-0153) is
the server's to add, once the entity sends one.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import typing as t
from xml.etree import ElementTree as ET

from archipel_protocol import errors, jids, namespaces as ns

from . import avatars

if t.TYPE_CHECKING:
    from .agent import Agent
    from .entity import Entity

log = logging.getLogger(__name__)

# What a machine's profile can hold, by the names of Archipel's attributes; what it does not is the configuration's.
ORGANISATION = ("orgname", "orgunit", "locality", "userid", "categories")
# Characters of one of them.
LONGEST = 200
AVATAR = "avatar"
VCARD = "vcard"

# Where they are in a vCard: element, and its child by field.
_PLACES = {
    "ORG": {"ORGNAME": "orgname", "ORGUNIT": "orgunit"},
    "ADR": {"LOCALITY": "locality"},
    "EMAIL": {"USERID": "userid"},
    "CATEGORIES": {"KEYWORD": "categories"},
}
_KINDS = {"hypervisor": ("hypervisor", "Hypervisor"), "vm": ("virtualmachine", "Virtual machine")}


def organisation(values: t.Mapping[str, str]) -> dict[str, str]:
    """Fields of ORGANISATION as somebody sent them, without blanks around them; raises MalformedRequest."""
    found = {name: text.strip() for name, text in values.items()}
    for name, text in found.items():
        if len(text) > LONGEST or not text.isprintable():
            raise errors.MalformedRequest(f"{name} must be one line of at most {LONGEST} characters")
    return found


class Profiles:
    """The vCards of all entities of one agent."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def change(self, entity: Entity, **values: str) -> None:
        """Sets fields of an entity's profile: those of ORGANISATION, and AVATAR."""
        jid = jids.bare(entity.jid)
        self._agent.store.set_profile(jid, {**self._agent.store.profile(jid), **values})
        self.check(entity)

    def fields(self, entity: Entity) -> dict[str, str]:
        """The fields of an entity, with the configuration's where it has none of its own."""
        config = self._agent.config
        default = config.hypervisor_default_avatar if entity.kind == "hypervisor" else config.vm_default_avatar
        own = self._agent.store.profile(jids.bare(entity.jid))
        found = {name: own.get(name) or getattr(config, name) for name in ORGANISATION}
        return {**found, AVATAR: own.get(AVATAR) or default}

    def vcard(self, entity: Entity) -> ET.Element:
        """The <vCard/> of an entity.

        Archipel's had its organisation outside of XEP-0054's elements; ejabberd loses a vCard with such elements.
        """
        role, title = _KINDS[entity.kind]
        fields = self.fields(entity)
        card = ET.Element(f"{{{ns.VCARD}}}vCard")
        driver = self._agent.config.libvirt_uri.partition(":")[0].partition("+")[0].upper()
        _add(card, "FN", entity.name)
        _add(card, "ROLE", role)
        _add(card, "TITLE", f"{title} ({driver})")
        for parent, children in _PLACES.items():
            said = [(child, fields[name]) for child, name in children.items() if fields[name]]
            element = ET.SubElement(card, f"{{{ns.VCARD}}}{parent}") if said else card
            for child, text in said:
                _add(element, child, text)
        picture = avatars.read(self._agent.config.machine_avatar_directory, fields[AVATAR]) if fields[AVATAR] else None
        if picture is not None:
            photo = ET.SubElement(card, f"{{{ns.VCARD}}}PHOTO")
            _add(photo, "TYPE", picture.content_type)
            _add(photo, "BINVAL", base64.b64encode(picture.content).decode())
        return card

    def check(self, entity: Entity) -> None:
        """Sends the vCard if it is not the one that the server has."""
        if entity.session is None or entity.releasing:
            return
        card = self.vcard(entity)
        digest = hashlib.sha256(ET.tostring(card)).hexdigest()
        if self._agent.pushes.made.get((jids.bare(entity.jid), VCARD)) != digest:
            self._agent.spawn(self._send(entity, card, digest), f"vCard of {entity.jid}")

    async def _send(self, entity: Entity, card: ET.Element, digest: str) -> None:
        bare = jids.bare(entity.jid)
        session = entity.session
        if session is None:
            return
        try:
            await session.request(bare, card)
        except errors.ArchipelError as fault:
            # The next login tries again.
            log.warning("the server does not take the vCard of %s: %s", bare, fault.message)
            return
        if not entity.releasing:
            self._agent.pushes.mark(bare, VCARD, digest)
        session.presence(*entity.shown)


def _add(parent: ET.Element, name: str, text: str) -> None:
    ET.SubElement(parent, f"{{{ns.VCARD}}}{name}").text = text or None
