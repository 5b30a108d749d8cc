# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""A bare publisher: what the XMPP server takes for as many items as the agent's pushes, without an agent.

It has one session for each node, and writes an item of a push's size on each of them, one right after the other, RATE
times a second; the measured node is the last, as a hypervisor's is. Options are read as JSON from the standard input,
because a password is among them. It prints when each item went to the measured node: {"<item>": <seconds since 1970>}.
"""

from __future__ import annotations

import contextlib
import gc
import json
import sys
import threading
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "integration")]

from xmpp_stream import Stream  # noqa: E402 - the path comes first

PUBSUB = "http://jabber.org/protocol/pubsub"
_PUSH = (
    "<push xmlns='archipel:push:virtualmachine:control' date='2026-01-01T00:00:00.000000Z' change='suspended'"
    " jid='00000000-0000-0000-0000-000000000000@{domain}'/>"
)


def publish(streams: list[Stream], nodes: list[str], rate: int, count: int) -> dict[str, float]:
    """When each item was written to the last of the nodes."""
    push = _PUSH.format(domain=streams[0].domain)
    gone = {}
    begin = time.monotonic()
    for number in range(count):
        time.sleep(max(0.0, begin + number / rate - time.monotonic()))
        for stream, node in zip(streams, nodes):
            gone[str(number)] = time.time()
            item = f"<publish node='{node}'><item id='{number}'>{push}</item></publish>"
            query = f"<pubsub xmlns='{PUBSUB}'>{item}</pubsub>"
            stream.write(f"<iq type='set' id='f{number}' to='pubsub.{stream.domain}'>{query}</iq>")
    return gone


def drain(stream: Stream) -> None:
    """Reads what the server answers, so that it can go on."""
    with contextlib.suppress(OSError):
        while True:
            stream.read()


def main(address: str, domain: str, ca_file: str, user: str, password: str, nodes: list[str], rate: int, count: int):
    streams = [
        Stream((address, 5222), domain, ca_file, timeout=None).login(user, password, f"floor{number}")
        for number, dummy in enumerate(nodes)
    ]
    for stream in streams:
        threading.Thread(target=drain, args=(stream,), daemon=True).start()
    gc.disable()
    print(json.dumps(publish(streams, nodes, rate, count)))


if __name__ == "__main__":
    main(**json.load(sys.stdin))
