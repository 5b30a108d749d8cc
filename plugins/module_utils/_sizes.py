# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sizes as people write them: a number and a binary unit.

Private to this collection; it may change without notice.
"""

from __future__ import annotations

import re
import typing as t
from fractions import Fraction

# IEC 80000-13. A bare letter means the same, as for qemu-img and virsh.
UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\Z")
_LETTERS = {unit[0]: unit for unit in UNITS if unit != "B"}


def parse(text: str) -> int:
    """The bytes in ``text``, such as "512MiB" or "1.5 GiB"; ValueError tells what is wrong with it."""
    match = _SIZE.match(text.strip())
    if match is None:
        raise ValueError(f"'{text}' is not a size; write a number and a unit, such as 2GiB")
    number, unit = match.groups()
    if not unit:
        raise ValueError(f"'{text}' has no unit; write {number}MiB or {number}GiB")
    factor = UNITS.get(_LETTERS.get(unit, unit))
    if factor is None:
        raise ValueError("'{}' has the unknown unit '{}'; known are {}".format(text, unit, ", ".join(UNITS)))
    size = Fraction(number) * factor
    if size.denominator != 1 or size <= 0:
        raise ValueError(f"'{text}' is no whole, positive number of bytes")
    return int(size)


def text(size: int) -> str:
    """A number of bytes in the largest unit that tells it exactly, such as "2GiB"."""
    unit, factor = next((unit, factor) for unit, factor in reversed(list(UNITS.items())) if size % factor == 0)
    return f"{size // factor}{unit}"


def problems(option: str, text: str | None) -> t.Iterator[str]:
    """What is wrong with the size ``text`` of ``option``, if it is given."""
    if text is None:
        return
    try:
        parse(text)
    except ValueError as exc:
        yield f"{option}: {exc}"
