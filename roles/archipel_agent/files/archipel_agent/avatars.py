# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""archipel:avatar: the pictures that there are, and which one an entity shows.

They are the files of one folder, machine_avatar_directory. A request names a file of it, and nothing else.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import pathlib
import stat
import typing as t
from xml.etree import ElementTree as ET

from archipel_protocol import errors, namespaces as ns

from .dispatch import Reply, Request, handler

if t.TYPE_CHECKING:
    from .entity import Entity

# Bytes: a vCard with a larger picture would not fit into the stanzas that common servers take.
LARGEST = 48 * 1024
_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".gif": "image/gif"}


class Picture(t.NamedTuple):
    """A file of the folder."""

    name: str
    content_type: str
    content: bytes


def read(folder: pathlib.Path, name: str) -> Picture | None:
    """A picture of the folder; None where there is no such file, or it is none. Blocking."""
    content_type = _TYPES.get(os.path.splitext(name)[1].lower())
    if content_type is None or not name or os.path.basename(name) != name:
        return None
    try:
        # No link, which could lead out of the folder, and no pipe, which could make us wait.
        file = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None
    try:
        # As much as a picture may have, and one byte to find out that it has more.
        content = os.read(file, LARGEST + 1) if stat.S_ISREG(os.fstat(file).st_mode) else None
    finally:
        os.close(file)
    if content is None:
        return None
    return None if len(content) > LARGEST else Picture(name, content_type, content)


def pictures(folder: pathlib.Path) -> list[Picture]:
    """All of them, by name; a folder that is missing has none. Blocking."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return []
    return [picture for picture in (read(folder, name) for name in names) if picture is not None]


async def getavatars(entity: Entity, request: Request) -> Reply:
    """<avatars><avatar name content-type hash>base64</avatar>*</avatars>; ``hash`` is an MD5 of the base64 text."""
    found = await asyncio.to_thread(pictures, entity.agent.config.machine_avatar_directory)
    parent = ET.Element(f"{{{ns.AVATAR}}}avatars")
    for picture in found:
        text = base64.b64encode(picture.content).decode()
        number = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
        attributes = {"name": picture.name, "content-type": picture.content_type, "hash": number}
        ET.SubElement(parent, f"{{{ns.AVATAR}}}avatar", attributes).text = text
    return [parent]


async def setavatar(entity: Entity, request: Request) -> Reply:
    """<archipel avatar="NAME"/>: the vCard gets the picture of that name."""
    name = request.attributes.get("avatar", "")
    folder = entity.agent.config.machine_avatar_directory
    if await asyncio.to_thread(read, folder, name) is None:
        message = f"avatar is {name!r} and must be a picture that getavatars lists"
        raise errors.ArchipelError(message, errors.CODE_AVATAR_SET)
    entity.agent.profiles.change(entity, avatar=name)


for _kind in ("hypervisor", "vm"):
    handler(ns.AVATAR, "getavatars", "getavatars", on=_kind, code=errors.CODE_AVATAR_LIST, reads=True)(getavatars)
    handler(ns.AVATAR, "setavatar", "setavatar", on=_kind, code=errors.CODE_AVATAR_SET)(setavatar)
