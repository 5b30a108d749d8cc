# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What libvirt answers from what is built into the host and installed there, and need not be asked for at each plan."""

from __future__ import annotations

import time
import typing as t

from .libvirt_facade import libvirt

T = t.TypeVar("T")

# Seconds: QEMU may be upgraded at any time.
_KEPT_FOR = 60.0
_answers: dict[t.Any, tuple[float, t.Any]] = {}


def asked(connection: libvirt.virConnect, function: t.Callable[..., T], *args: t.Any) -> T:
    """What ``function(connection, *args)`` returns, or has returned lately; runs in Libvirt.call().

    ``args`` are such that libvirt knows few of, or ``function`` raises: answers are forgotten only for newer ones.
    """
    question = (connection.getURI(), function, args)
    when, answer = _answers.get(question, (-_KEPT_FOR, None))
    if time.monotonic() - when >= _KEPT_FOR:
        answer = function(connection, *args)
        _answers[question] = (time.monotonic(), answer)
    return t.cast(T, answer)
