# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What became of declarations, one by one and on the whole.

Private to this collection; it may change without notice.
"""

from __future__ import annotations

import collections
import typing as t

from .archipel_protocol.declaration import Facts
from .archipel_protocol.errors import ArchipelError


class Outcome(t.NamedTuple):
    """What became of one declaration; ``error`` None: it is true, or would be.

    ``created``, ``gone``: the machine is new, or no more. ``skipped``: nothing was tried, because others failed.
    ``xml``: how the definition changes, line by line, where that was asked for.
    """

    name: str
    changed: bool = False
    before: t.Mapping[str, t.Any] = {}
    after: t.Mapping[str, t.Any] = {}
    actions: t.Sequence[str] = ()
    restart_required: t.Sequence[str] = ()
    applied_live: t.Sequence[str] = ()
    vm: Facts | None = None
    xml: str = ""
    warning: str = ""
    error: ArchipelError | None = None
    created: bool = False
    gone: bool = False
    skipped: bool = False

    @property
    def diff(self) -> dict[str, t.Any]:
        """Before and after, in the terms of the options; what Ansible prints below them is the XML."""
        return {
            **({"prepared": self.xml + "\n"} if self.xml else {}),
            "before": dict(self.before),
            "after": dict(self.after),
            "before_header": self.name,
            "after_header": self.name,
        }


# In the order in which they are told; the word is that of a plan, and of what was done.
KINDS = {
    "create": "created",
    "change": "changed",
    "move": "moved",
    "start": "started",
    "resume": "resumed",
    "pause": "paused",
    "save": "saved",
    "stop": "stopped",
    "restart": "restarted",
    "remove": "removed",
    "unchanged": "unchanged",
    "fail": "failed",
    "skip": "not begun",
}
_BY_STATE = {"running": "start", "paused": "pause", "stopped": "stop", "saved": "save"}


def kind(outcome: Outcome) -> str:
    """What is done to a machine, one of KINDS: of several, what weighs most."""
    if outcome.error is not None:
        return "skip" if outcome.skipped else "fail"
    if not outcome.changed:
        return "unchanged"
    if outcome.created:
        return "create"
    if outcome.gone:
        return "remove"
    touched = {*outcome.before, *outcome.after}
    if touched - {"state", "hypervisor"}:
        return "change"
    if "hypervisor" in touched:
        return "move"
    before, after = outcome.before.get("state"), outcome.after.get("state")
    if (before, after) == ("paused", "running"):
        return "resume"
    return _BY_STATE.get(str(after), "restart" if "start" in outcome.actions else "change")


def counts(outcomes: t.Sequence[Outcome]) -> dict[str, int]:
    """How many there are of each of KINDS, without those of which there are none."""
    found = collections.Counter(map(kind, outcomes))
    return {one: found[one] for one in KINDS if found[one]}


def summary(outcomes: t.Sequence[Outcome], check: bool, none: str = "nothing is declared") -> str:
    """A line such as "create 3, change 2 (1 needs a restart), unchanged 193"; of what was done "created 3, ...".

    ``none``: what is said where there are no outcomes.
    """
    restarts = collections.Counter(kind(outcome) for outcome in outcomes if outcome.restart_required)
    parts = []
    for one, count in counts(outcomes).items():
        word = one if check and one != "skip" else KINDS[one]
        needs = restarts[one] and " ({} {} a restart)".format(restarts[one], "needs" if restarts[one] == 1 else "need")
        parts.append(f"{word} {count}{needs or ''}")
    return ", ".join(parts) or none
