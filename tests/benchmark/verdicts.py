# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The table of what was measured: what misses what is wanted is marked and counted."""

from __future__ import annotations

import re

MET, MISSED, UNITS = "met", "MISSED", "UNITS DIFFER"
_FIGURE = re.compile(r"(?P<unit>x |)(?P<number>\d+(?:\.\d+)?)(?P<per>/s| \S+|)")


def table(rows: list[tuple[str, str, str]]) -> str:
    """A line for each row, which is what, measured, wanted; one more that counts."""
    found = [verdict(row[1], row[2]) for row in rows]
    lines = [f"{row[0]:<78}{row[1]:>10}{row[2]:>18}  {mark}".rstrip() for row, mark in zip(rows, found)]
    return "\n".join([*lines, f"{found.count(MISSED)} of {len(rows) - found.count('')} missed what is wanted"])


def verdict(measured: str, wanted: str) -> str:
    """MET, MISSED or UNITS, of figures such as "8 s"; "" where ``wanted`` is none: nothing, a difference, a range."""
    limit, figure = _FIGURE.fullmatch(wanted), _FIGURE.fullmatch(measured)
    if limit is None:
        return ""
    if figure is None or (figure["unit"], figure["per"]) != (limit["unit"], limit["per"]):
        return UNITS
    more = float(figure["number"]) - float(limit["number"])
    # As many a second as can be; of times and sizes as little.
    return MISSED if (more < 0 if limit["per"] == "/s" else more > 0) else MET
