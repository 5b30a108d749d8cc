# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What libvirt answers from what is built into the host and installed there, and need not be asked for at each plan."""

from __future__ import annotations

import time
import typing as t

from .libvirt_facade import Libvirt, libvirt

T = t.TypeVar("T")

# Seconds: QEMU may be upgraded at any time.
_KEPT_FOR = 60.0
_answers: dict[t.Any, tuple[float, t.Any]] = {}


def asked(connection: libvirt.virConnect, function: t.Callable[..., T], *args: t.Any) -> T:
    """What ``function(connection, *args)`` returns, or has returned lately; runs in Libvirt.call().

    ``args`` are such that libvirt knows few of, or ``function`` raises: answers are forgotten only for newer ones.
    """
    question = _question(connection, function, *args)
    if not _is_known(question):
        answer = function(connection, *args)
        _answers[question] = (time.monotonic(), answer)
    return t.cast(T, _answers[question][1])


async def told(facade: Libvirt, function: t.Callable[..., T], *args: t.Any) -> T:
    """The same for who is not in Libvirt.call(): what is known costs no way to a thread and back."""
    question = None if facade.connection is None else _question(facade.connection, function, *args)
    if question is not None and _is_known(question):
        return t.cast(T, _answers[question][1])
    return await facade.call(asked, function, *args)


def _question(connection: libvirt.virConnect, function: t.Callable[..., t.Any], *args: t.Any) -> t.Any:
    return connection.getURI(), function, args


def _is_known(question: t.Any) -> bool:
    return question in _answers and time.monotonic() - _answers[question][0] < _KEPT_FOR
