# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Denials in the log: who asks and asks, or asks under ever new names, does not fill it."""

from __future__ import annotations

import asyncio
import collections
import logging

from archipel_protocol import jids

log = logging.getLogger(__name__)

# Seconds; lines of one sender in them, and of all senders. Senders that are told apart; the others count as one.
PERIOD = 60.0
LINES = 5
LINES_OF_ALL = 50
SENDERS = 100
_OTHERS = "others"


class Denials:
    """Writes the first denials of a period, and at its end for each sender how many were left out."""

    def __init__(self) -> None:
        self._told = 0
        self._of: collections.Counter[str] = collections.Counter()
        self._left_out: collections.Counter[str] = collections.Counter()

    def note(self, sender: str, text: str) -> None:
        """Writes ``text``, or counts it."""
        if not self._of:
            asyncio.get_running_loop().call_later(PERIOD, self.close)
        who = jids.bare(sender)
        if who not in self._of and len(self._of) >= SENDERS:
            who = _OTHERS
        self._of[who] += 1
        if self._of[who] > LINES or self._told >= LINES_OF_ALL:
            self._left_out[who] += 1
            return
        self._told += 1
        log.info("%s", text)

    def close(self) -> None:
        """Ends the period."""
        for who, count in self._left_out.items():
            log.info("%d more denials of %s in %g s are not shown", count, who, PERIOD)
        self._told = 0
        self._of.clear()
        self._left_out.clear()
