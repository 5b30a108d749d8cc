# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is told of a machine: from events, and from two looks at it."""

from __future__ import annotations

import libvirt
import pytest

from archipel_agent import changes
from archipel_protocol import states

CREATED, RESUMED, SUSPENDED, SHUTDOWN, SHUTOFF, CRASHED = (
    (changes.CONTROL, change) for change in ("created", "resumed", "suspended", "shutdown", "shutoff", "crashed")
)
RESTORED = (changes.SNAPSHOT, "restored")


@pytest.mark.parametrize(
    ("event", "detail", "before", "told", "after"),
    [
        ("DEFINED", "DEFINED_UPDATED", states.SHUTOFF, [(changes.DEFINITION, "defined")], states.SHUTOFF),
        ("UNDEFINED", "UNDEFINED_REMOVED", states.RUNNING, [(changes.DEFINITION, "undefined")], states.RUNNING),
        # virsh start, as QEMU's driver tells of it
        ("RESUMED", "RESUMED_UNPAUSED", states.SHUTOFF, [], states.SHUTOFF),
        ("STARTED", "STARTED_BOOTED", states.SHUTOFF, [CREATED], states.RUNNING),
        ("STARTED", "STARTED_BOOTED", states.RUNNING, [], states.RUNNING),
        ("STARTED", "STARTED_WAKEUP", states.PMSUSPENDED, [RESUMED], states.RUNNING),
        ("SUSPENDED", "SUSPENDED_PAUSED", states.RUNNING, [SUSPENDED], states.PAUSED),
        ("SUSPENDED", "SUSPENDED_IOERROR", states.PAUSED, [], states.PAUSED),
        ("RESUMED", "RESUMED_UNPAUSED", states.PAUSED, [RESUMED], states.RUNNING),
        ("SHUTDOWN", "SHUTDOWN_GUEST", states.RUNNING, [SHUTDOWN], states.SHUTDOWN),
        # a normal end is no crash, and a crash is no normal end
        ("STOPPED", "STOPPED_SHUTDOWN", states.SHUTDOWN, [SHUTOFF], states.SHUTOFF),
        ("STOPPED", "STOPPED_DESTROYED", states.RUNNING, [SHUTOFF], states.SHUTOFF),
        ("STOPPED", "STOPPED_CRASHED", states.RUNNING, [CRASHED], states.CRASHED),
        ("STOPPED", "STOPPED_FAILED", states.RUNNING, [CRASHED], states.CRASHED),
        ("STOPPED", "STOPPED_FROM_SNAPSHOT", states.RUNNING, [RESTORED, SHUTOFF], states.SHUTOFF),
        ("STARTED", "STARTED_FROM_SNAPSHOT", states.SHUTOFF, [RESTORED, CREATED], states.RUNNING),
        # on the way to another host, or from it
        ("SUSPENDED", "SUSPENDED_MIGRATED", states.RUNNING, [], states.RUNNING),
        ("STOPPED", "STOPPED_MIGRATED", states.RUNNING, [], states.RUNNING),
        ("RESUMED", "RESUMED_MIGRATED", states.PAUSED, [], states.PAUSED),
    ],
)
def test_events(event, detail, before, told, after):
    numbers = (getattr(libvirt, "VIR_DOMAIN_EVENT_" + name) for name in (event, detail))
    assert changes.of_event(*numbers, before) == (told, after)


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        (states.RUNNING, states.RUNNING, []),
        (states.RUNNING, states.BLOCKED, []),
        (states.SHUTOFF, states.RUNNING, [CREATED]),
        (states.PAUSED, states.RUNNING, [RESUMED]),
        (states.RUNNING, states.PAUSED, [SUSPENDED]),
        (states.SHUTOFF, states.PAUSED, [CREATED, SUSPENDED]),
        (states.RUNNING, states.SHUTDOWN, [SHUTDOWN]),
        (states.PAUSED, states.SHUTOFF, [SHUTOFF]),
        (states.RUNNING, states.CRASHED, [CRASHED]),
        (states.CRASHED, states.SHUTOFF, []),
        (states.RUNNING, None, [SHUTOFF]),
        (states.SHUTOFF, None, []),
        (None, states.RUNNING, [CREATED]),
        (None, states.SHUTOFF, []),
    ],
)
def test_states(before, now, told):
    assert changes.of_states(before, now) == told


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [("a", "a", []), ("a", "b", ["defined"]), ("", "a", ["defined"]), ("a", "", ["undefined"]), (None, "a", [])],
)
def test_definitions(before, now, told):
    assert [change for dummy, change in changes.of_definitions(before, now)] == told
