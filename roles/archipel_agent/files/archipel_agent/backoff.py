# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pauses between attempts."""

from __future__ import annotations

import random
import typing as t


def pauses(first: float = 1.0, largest: float = 60.0) -> t.Iterator[float]:
    """Endless pauses in seconds, doubling up to ``largest``, each with a jitter of a half.

    The jitter keeps a thousand agents from knocking at a restarted server at the same moment.
    """
    pause = first
    while True:
        yield pause * random.uniform(0.5, 1.0)
        pause = min(pause * 2, largest)
