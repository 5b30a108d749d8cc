# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""How late pushes are at a subscriber, beside what the XMPP server alone takes for as many items of a bare publisher.

All clocks are one machine's.
"""

from __future__ import annotations

import contextlib
import gc
import json
import subprocess
import sys
import time
import typing as t
from pathlib import Path
from xml.etree import ElementTree as ET

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "integration"), str(ROOT / "roles" / "archipel_agent" / "files")]
sys.path[:0] = [str(ROOT / "plugins" / "module_utils")]

from publisher import PUBSUB  # noqa: E402 - as above
from xmpp_stream import Refused, Stream  # noqa: E402 - as above

from archipel_agent import events_node  # noqa: E402 - the path comes first

if t.TYPE_CHECKING:
    from conftest import Platform
    from fleet import Fleet

Row = tuple[str, str, str]
EVENT = f"{{{PUBSUB}#event}}"
USER = "automation"
# As many as the agent publishes on at each event: the machine's, and the hypervisor's, which is measured.
FLOOR_NODES = ("/archipel/benchmark/machine", "/archipel/benchmark/hypervisor")


def measured(platform: Platform, fleet: Fleet, reader: Stream, rate: int, events: int) -> t.Iterator[Row]:
    """The lines of the table; ``reader`` is a session of USER."""
    # Who shows no presence is sent no headline (RFC 6121, 8.5.2.2).
    reader.write("<presence/>")
    floor = _floor(platform, reader, rate, events)
    yield _row(f"item of a bare publisher at {rate}/s, median", floor, 0.5, "")
    yield _row(f"item of a bare publisher at {rate}/s, p99", floor, 0.99, "")
    busy = fleet.usage()
    late = _pushes(fleet, reader, events)
    spent = fleet.usage_since(busy)
    if not late:
        sys.exit("no push has come")
    yield _row(f"push after a listener at {rate}/s, median", late, 0.5, "")
    yield _row(f"push after a listener at {rate}/s, p99", late, 0.99, "10 ms")
    yield ("pushes lost", f"{events - len(late)}", "0")
    for who, seconds in spent.items():
        yield (f"processor of the {who} for each event", f"{seconds / events * 1000:.2f} ms", "")


def _row(what: str, values: list[float], share: float, wanted: str) -> Row:
    return (what, f"{values[min(len(values) - 1, int(len(values) * share))]:.1f} ms", wanted)


def _pushes(fleet: Fleet, reader: Stream, events: int) -> list[float]:
    """Milliseconds by which each push at a subscriber is later than the event at a listener, in their order."""
    node = f"/archipel/{fleet.jid.partition('/')[0]}/events"
    with _subscribed(reader, node):
        fleet.begin_events()
        came = _items(reader, events, lambda item: (item[0].get("jid", "").partition("@")[0], item[0].get("change")))
    return _late(fleet.events(), came)


def _floor(platform: Platform, reader: Stream, rate: int, events: int) -> list[float]:
    """Milliseconds from a bare publisher to a subscriber, on nodes like the agent's."""
    options = {
        "address": platform.address(platform.xmpp),
        "domain": platform.domain,
        "ca_file": platform.ca_file,
        "user": USER,
        "password": platform.password(USER),
        "nodes": FLOOR_NODES,
        "rate": rate,
        "count": events,
    }
    with contextlib.ExitStack() as stack:
        for node in FLOOR_NODES:
            stack.enter_context(_node(reader, node))
        stack.enter_context(_subscribed(reader, FLOOR_NODES[-1]))
        command = [sys.executable, str(Path(__file__).with_name("publisher.py"))]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as publisher:
            publisher.stdin.write(json.dumps(options))
            publisher.stdin.close()
            came = _items(reader, events, lambda item: item.get("id"))
            gone = json.loads(publisher.stdout.read())
    return _late(gone, came)


def _items(reader: Stream, count: int, key: t.Callable[[ET.Element], t.Any]) -> dict[t.Any, float]:
    """When each of ``count`` items came; fewer where none comes any more."""
    came: dict[t.Any, float] = {}
    before = reader.timeout(10)
    # Else what is measured is how long this process looks for its own garbage: 20 ms now and then.
    gc.disable()
    with contextlib.suppress(TimeoutError):
        while len(came) < count:
            stanza = reader.read()
            now = time.time()
            came.update((key(item), now) for item in stanza.iter(EVENT + "item"))
    gc.enable()
    reader.timeout(before)
    return came


def _late(gone: dict[t.Any, float], came: dict[t.Any, float]) -> list[float]:
    return sorted((came[key] - when) * 1000 for key, when in gone.items() if key in came)


@contextlib.contextmanager
def _node(owner: Stream, node: str) -> t.Iterator[None]:
    """A node as an entity's events node is made, while it is needed."""
    delete = f"<pubsub xmlns='{PUBSUB}#owner'><delete node='{node}'/></pubsub>"
    with contextlib.suppress(Refused):
        # Left by a run that was killed.
        owner.ask("set", delete, f"pubsub.{owner.domain}")
    owner.ask("set", ET.tostring(events_node.creation(node), "unicode"), f"pubsub.{owner.domain}")
    try:
        yield
    finally:
        owner.ask("set", delete, f"pubsub.{owner.domain}")


@contextlib.contextmanager
def _subscribed(reader: Stream, node: str) -> t.Iterator[None]:
    place = f"node='{node}' jid='{USER}@{reader.domain}'"
    reader.ask("set", f"<pubsub xmlns='{PUBSUB}'><subscribe {place}/></pubsub>", f"pubsub.{reader.domain}")
    try:
        yield
    finally:
        reader.ask("set", f"<pubsub xmlns='{PUBSUB}'><unsubscribe {place}/></pubsub>", f"pubsub.{reader.domain}")
