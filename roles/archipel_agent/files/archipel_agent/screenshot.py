# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""archipel:vm:control screenshot: what the guest shows on its first screen."""

from __future__ import annotations

import base64
import io
import typing as t
from xml.etree import ElementTree as ET

from archipel_protocol import errors, namespaces as ns

from .dispatch import Reply, Request, handler
from .libvirt_facade import libvirt
from .vm_control import defined

if t.TYPE_CHECKING:
    from .virtual_machine import VirtualMachineEntity

_SCREENSHOT = f"{{{ns.VM_CONTROL}}}screenshot"
# Pixels; Archipel's.
_THUMBNAIL = (216, 162)
# Bytes of a picture as libvirt sends it; 8192 x 4320 pixels of three bytes are fewer.
_LARGEST = 128 << 20


class Picture(t.NamedTuple):
    """A PNG."""

    content: bytes
    width: int
    height: int


@handler(ns.VM_CONTROL, "screenshot", "screenshot", on="vm", code=errors.CODE_VM_SCREENSHOT, reads=True)
async def screenshot(entity: VirtualMachineEntity, request: Request) -> Reply:
    """size="thumbnail/full" -> <screenshot mime="image/png" width height>base64</screenshot>; none while it is off."""
    size = request.attributes.get("size", "full")
    if size not in ("thumbnail", "full"):
        raise errors.MalformedRequest(f"size is '{size}' and must be thumbnail or full")
    with defined(entity, errors.CODE_VM_SCREENSHOT):
        picture = await entity.agent.libvirt.call(take, entity.uuid, size == "thumbnail")
    if picture is None:
        return None
    attributes = {"mime": "image/png", "width": str(picture.width), "height": str(picture.height)}
    element = ET.Element(_SCREENSHOT, attributes)
    element.text = base64.b64encode(picture.content).decode()
    return [element]


# In a thread


def take(connection: libvirt.virConnect, uuid: str, small: bool) -> Picture | None:
    """What an active domain shows; None of one that is off."""
    domain = connection.lookupByUUIDString(uuid)
    if not domain.isActive():
        return None
    stream, content = connection.newStream(), bytearray()
    # libvirt says which format it is in, and Pillow sees it.
    domain.screenshot(stream, 0)
    while True:
        piece = stream.recv(1 << 18)
        if not piece:
            break
        content += piece
        if len(content) > _LARGEST:
            stream.abort()
            raise errors.ArchipelError(f"the screen has more than {_LARGEST >> 20} MiB", errors.CODE_VM_SCREENSHOT)
    stream.finish()
    return _converted(bytes(content), small)


def _converted(content: bytes, small: bool) -> Picture:
    # Here, because it is large and most agents never take a picture.
    from PIL import Image

    with Image.open(io.BytesIO(content), formats=("PPM", "PNG")) as image:
        picture = image.convert("RGB")
    if small:
        picture.thumbnail(_THUMBNAIL)
    file = io.BytesIO()
    picture.save(file, "PNG")
    return Picture(file.getvalue(), picture.width, picture.height)
