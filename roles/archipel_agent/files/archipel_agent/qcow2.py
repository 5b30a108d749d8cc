# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which other files a qcow2 image names. Pure; https://www.qemu.org/docs/master/interop/qcow2.html#header"""

from __future__ import annotations

import struct
import typing as t

_MAGIC = b"QFI\xfb"
# Magic, version, offset and length of the backing file's name.
_BEGINNING = struct.Struct(">4sIQI")
_VERSION_2 = 72  # its length, which of version 3 says for itself
_INCOMPATIBLE = struct.Struct(">Q")  # at the end of version 2's
_DATA_FILE = 1 << 2
_LENGTH_AT = 100
_EXTENSION = struct.Struct(">II")
_BACKING_FORMAT = 0xE2792ACA
# Bytes: what is read at once; how far into the image the name may lie, in the largest first cluster, and how long it
# may be, or QEMU does not open the image.
_PART = 4096
_FURTHEST = 2 << 20
_LONGEST = 1023

Read = t.Callable[[int, int], bytes]


class Image(t.NamedTuple):
    """``backing`` is the name as it stands in the image, ``form`` its format; both are empty where none is stated."""

    backing: str
    form: str
    has_data_file: bool


def read(part: Read) -> Image | None:
    """What an image says; None where it is none. ``part(offset, length)`` reads from it, less at its end."""
    head = part(0, _PART)
    if len(head) < _VERSION_2 or not head.startswith(_MAGIC):
        return None
    dummy, version, place, length = _BEGINNING.unpack_from(head)
    if place > _FURTHEST or length > _LONGEST:
        return None
    features, extensions = 0, _VERSION_2
    if version >= 3 and len(head) >= _LENGTH_AT + 4:
        features = _INCOMPATIBLE.unpack_from(head, _VERSION_2)[0]
        extensions = struct.unpack_from(">I", head, _LENGTH_AT)[0]
    backing = _text(part(place, length)) if place and length else ""
    form = _format(head, extensions) if backing else ""
    return Image(backing, form, bool(features & _DATA_FILE))


def _format(head: bytes, place: int) -> str:
    """Of the backing file, from the header's extensions: type, length, data that is filled up to eight bytes."""
    while place + _EXTENSION.size <= len(head):
        kind, length = _EXTENSION.unpack_from(head, place)
        place += _EXTENSION.size
        if kind == 0:
            break
        if kind == _BACKING_FORMAT:
            return _text(head[place : place + length])
        place += (length + 7) & ~7
    return ""


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
