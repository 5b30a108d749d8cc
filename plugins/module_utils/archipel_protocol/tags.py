# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tags: words that people sort virtual machines by. On Archipel's wire they are one text, ``a;;b;;c``."""

from __future__ import annotations

import typing as t

from .errors import MalformedRequest

SEPARATOR = ";;"
LONGEST = 64
MOST = 64


def problem(tag: str) -> str | None:
    """Why ``tag`` is none; None if it is one."""
    if not tag or tag != tag.strip() or not tag.isprintable():
        return f"the tag '{tag}' must not be empty, nor begin or end with a blank, nor have control characters"
    if ";" in tag:
        return f"the tag '{tag}' must not have a ';', which separates tags"
    if len(tag) > LONGEST:
        return f"the tag '{tag}' has {len(tag)} characters; at most {LONGEST} are taken"
    return None


def problems(tags: t.Sequence[str]) -> list[str]:
    """Why ``tags`` cannot be those of one virtual machine."""
    found = [text for text in map(problem, tags) if text is not None]
    if len(set(tags)) > MOST:
        found.append(f"{len(set(tags))} tags are too many; at most {MOST} are taken")
    return found


def checked(tags: t.Sequence[str]) -> list[str]:
    """``tags`` once each and sorted; raises MalformedRequest."""
    found = problems(tags)
    if found:
        raise MalformedRequest("; ".join(found))
    return sorted(set(tags))


def join(tags: t.Iterable[str]) -> str:
    """The text for the wire."""
    return SEPARATOR.join(tags)


def split(text: str) -> list[str]:
    """The tags in a text from the wire, once each and sorted; raises MalformedRequest."""
    return checked([tag.strip() for tag in text.split(SEPARATOR) if tag.strip()])
