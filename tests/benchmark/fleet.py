# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""One agent with 500 virtual machines of libvirt's test driver, logged in to the lab's XMPP server.

It takes the place of the first hypervisor's agent for the time of the measurement. Its machines and their accounts go
at the end.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import re
import sys
import tempfile
import time
import uuid
from pathlib import Path
from xml.etree import ElementTree as ET

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "integration")]

from conftest import Platform  # noqa: E402 - the path comes first
from xmpp_stream import CLIENT, Refused, Stream  # noqa: E402 - as above

MACHINES = 500
REQUESTS = 1000
WINDOW = 64
EVENTS = 1000
RATE = 100  # events a second
FOLDER = "/var/lib/archipel/benchmark"
PUBSUB = "http://jabber.org/protocol/pubsub"
EVENT = f"{{{PUBSUB}#event}}"

_NODE = "<node><cpu><mhz>1</mhz><nodes>1</nodes><sockets>1</sockets><cores>1</cores><threads>1</threads></cpu>{}</node>"
_DOMAIN = (
    "<domain type='test'><name>bench-{0}</name><uuid>{1}</uuid><memory>8192</memory><vcpu>1</vcpu>"
    "<os><type>hvm</type></os></domain>"
)
_SETUP = """
set -e
systemctl stop archipel-agent
install -d -o archipel -m 0700 {folder}
sed -e 's#^libvirt_uri = .*#libvirt_uri = test://{folder}/node.xml#' \
  -e 's#^archipel_folder_lib = .*#archipel_folder_lib = {folder}#' \
  -e 's#^logging_file_path = .*#logging_file_path = {folder}/log#' /etc/archipel/archipel.conf > {folder}/archipel.conf
chown -R archipel {folder}
"""
_START = (
    "systemd-run -q --collect --unit archipel-benchmark --uid archipel --setenv=HOME={folder}"
    " /usr/bin/archipel-agent --config {folder}/archipel.conf"
)


class Fleet:
    """The agent that is measured."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self.host = platform.hypervisors[0]
        self.jid = f"{self.host}@{platform.domain}/{self.host}"
        self.uuids = [str(uuid.uuid4()) for dummy in range(MACHINES)]

    def run(self, command: str) -> str:
        return self._platform.run(self.host, command.replace("{folder}", FOLDER))

    def set_up(self) -> None:
        domains = "".join(_DOMAIN.format(number, one) for number, one in enumerate(self.uuids))
        self.run(_SETUP)
        self.run(f"cat > {FOLDER}/node.xml <<'END'\n{_NODE.format(domains)}\nEND")

    def start(self) -> None:
        self.run(_START)

    def stop(self) -> None:
        self.run("systemctl stop archipel-benchmark")

    def tear_down(self) -> None:
        # The hypervisor's own agent is to make its vCard and node again.
        forget = "import sqlite3; sqlite3.connect('/var/lib/archipel/pushes.sqlite3').executescript('DELETE FROM made')"
        self.run("systemctl stop archipel-benchmark; rm -rf {folder}")
        self.run(f'runuser -u archipel -- python3 -c "{forget}"; systemctl start archipel-agent')

    def machine(self, number: int) -> str:
        return f"{self.uuids[number]}@{self._platform.domain}/{self.host}"

    def memory(self) -> int:
        """KiB that the process holds."""
        return int(re.search(r"VmRSS:\s+(\d+)", self.run(f"cat /proc/{self._pid()}/status")).group(1))

    def processor(self) -> float:
        """Seconds of processor so far."""
        fields = self.run(f"cat /proc/{self._pid()}/stat").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100

    def _pid(self) -> str:
        return self.run("systemctl show -P MainPID archipel-benchmark").strip()


class Client:
    """Somebody who may ask for everything."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    def rest(self, seconds: float) -> None:
        """Lets time pass, and answers the server's pings meanwhile."""
        deadline = time.monotonic() + seconds
        before = self.stream.timeout(0.5)
        while time.monotonic() < deadline:
            with contextlib.suppress(TimeoutError):
                self._read()
        self.stream.timeout(before)

    def _read(self) -> ET.Element:
        stanza = self.stream.read()
        if stanza.tag == CLIENT + "iq" and stanza.get("type") == "get":
            self.stream.write(f"<iq type='result' id='{stanza.get('id')}' to='{stanza.get('from')}'/>")
        return stanza

    def ask_all(self, requests: list[tuple[str, str]]) -> float:
        """Sends (receiver, payload) with WINDOW of them under way; the seconds until the last answer."""
        begin = time.monotonic()
        waiting, sent = 0, 0
        while sent < len(requests) or waiting:
            batch = requests[sent : sent + WINDOW - waiting]
            if batch:
                text = (f"<iq type='set' id='b{sent}' to='{to}'>{payload}</iq>" for to, payload in batch)
                self.stream.write("".join(text))
                sent += len(batch)
                waiting += len(batch)
            stanza = self._read()
            if stanza.tag == CLIENT + "iq" and stanza.get("type") != "get":
                if stanza.get("type") != "result":
                    raise Refused(ET.tostring(stanza[-1], "unicode"))
                waiting -= 1
        return time.monotonic() - begin

    def online(self, fleet: Fleet) -> float:
        """Seconds until every machine answers a ping."""
        begin = time.monotonic()
        left = set(range(MACHINES))
        while left:
            for number in sorted(left)[:WINDOW]:
                ping = "<ping xmlns='urn:xmpp:ping'/>"
                self.stream.write(f"<iq type='get' id='p{number}' to='{fleet.machine(number)}'>{ping}</iq>")
            waiting = min(WINDOW, len(left))
            before_wait = self.stream.timeout(1)
            with contextlib.suppress(TimeoutError):
                # An answer may be lost with the session that was to carry it.
                while waiting:
                    stanza = self._read()
                    if stanza.get("type") in ("result", "error"):
                        waiting -= 1
                    if stanza.get("type") == "result":
                        left.discard(int(stanza.get("id", "p-1")[1:]))
            self.stream.timeout(before_wait)
            if time.monotonic() - begin > 300:
                sys.exit(f"{len(left)} machines are not online after 300 s")
        return time.monotonic() - begin


def _action(namespace: str, action: str, text: str = "") -> str:
    return f"<query xmlns='{namespace}'><archipel action='{action}'>{text}</archipel></query>"


def _pushes(fleet: Fleet, client: Client, reader: Stream, domain: str) -> list[float]:
    """Milliseconds from each event in the agent to its push at a subscriber; all hosts share one clock."""
    node = f"/archipel/{fleet.jid.partition('/')[0]}/events"
    subscription = f"<subscribe node='{node}' jid='automation@{domain}'/>"
    reader.ask("set", f"<pubsub xmlns='{PUBSUB}'>{subscription}</pubsub>", f"pubsub.{domain}")
    late: dict[str, float] = {}
    begin = time.monotonic()
    sent = 0
    while len(late) < EVENTS:
        due = min(EVENTS, int((time.monotonic() - begin) * RATE) + 1)
        while sent < due:
            action = "suspend" if sent // MACHINES % 2 == 0 else "resume"
            number = sent % MACHINES
            content = _action("archipel:vm:control", action)
            client.stream.write(f"<iq type='set' id='e{sent}' to='{fleet.machine(number)}'>{content}</iq>")
            sent += 1
        reader.timeout(0.005 if sent < EVENTS else 10)
        with contextlib.suppress(TimeoutError):
            stanza = reader.read()
            now = datetime.datetime.now(datetime.timezone.utc)
            for item in stanza.iter(EVENT + "item"):
                date = datetime.datetime.strptime(item[0].get("date", ""), "%Y-%m-%dT%H:%M:%S.%f%z")
                late[item.get("id", "")] = (now - date).total_seconds() * 1000
            continue
        if sent >= EVENTS:
            break
    reader.ask("set", f"<pubsub xmlns='{PUBSUB}'>{subscription.replace('<sub', '<unsub')}</pubsub>", f"pubsub.{domain}")
    return sorted(late.values())


def _percentile(values: list[float], share: float) -> float:
    return values[min(len(values) - 1, int(len(values) * share))]


def rows(inventory: str) -> list[tuple[str, str, str]]:
    """The lines of the table: what, measured, wanted."""
    with tempfile.TemporaryDirectory() as directory:
        platform = Platform(inventory, Path(directory))
        fleet = Fleet(platform)
        fleet.set_up()
        try:
            return _measure(platform, fleet)
        finally:
            # Where the agent itself is what failed, its accounts stay.
            with contextlib.suppress(Refused, OSError), _log_in(platform) as client:
                items = "".join(f"<item jid='{one}@{platform.domain}'/>" for one in fleet.uuids)
                client.stream.timeout(300)
                client.ask_all([(fleet.jid, _action("archipel:hypervisor:control", "unmanage", items))])
            fleet.tear_down()


@contextlib.contextmanager
def _log_in(platform: Platform):
    with platform.stream() as stream:
        stream.timeout(120)
        stream.login("automation", platform.password("automation"), uuid.uuid4().hex)
        yield Client(stream)


def _measure(platform: Platform, fleet: Fleet) -> list[tuple[str, str, str]]:
    fleet.start()
    time.sleep(5)
    empty = fleet.memory()
    with _log_in(platform) as client:
        items = "".join(f"<item jid='{one}@{platform.domain}'/>" for one in fleet.uuids)
        client.ask_all([(fleet.jid, _action("archipel:hypervisor:control", "manage", items))])
        client.online(fleet)
        client.rest(20)
        fleet.stop()
        fleet.start()
        online = client.online(fleet)
        client.rest(20)
        memory = (fleet.memory() - empty) / MACHINES
        before = fleet.processor()
        client.rest(20)
        idle = (fleet.processor() - before) / 20 * 100
        info = _action("archipel:vm:control", "info")
        requests = [(fleet.machine(number % MACHINES), info) for number in range(REQUESTS)]
        rate = REQUESTS / client.ask_all(requests)
        inventory = [(fleet.jid, _action("archipel:declaration", "inventory", json.dumps({})))]
        listing = min(client.ask_all(inventory) for dummy in range(3)) * 1000
        with _log_in(platform) as reader:
            late = _pushes(fleet, client, reader.stream, platform.domain)
    if not late:
        sys.exit("no push has come")
    return [
        (f"{MACHINES} machines of one agent online after its start", f"{online:.1f} s", "8 s"),
        ("memory of each", f"{memory:.0f} KiB", "400 KiB"),
        ("processor of the idle agent", f"{idle:.2f} %", "1 %"),
        ("info requests over one session", f"{rate:.0f}/s", "1000/s"),
        (f"inventory of {MACHINES} machines", f"{listing:.0f} ms", "250 ms"),
        (f"event to push at {RATE}/s, median", f"{_percentile(late, 0.5):.1f} ms", ""),
        (f"event to push at {RATE}/s, p99", f"{_percentile(late, 0.99):.1f} ms", "10 ms"),
        ("pushes lost", f"{EVENTS - len(late)}", "0"),
    ]


if __name__ == "__main__":
    for row in rows(str(ROOT / "inventories" / "lab" / "hosts")):
        print(f"{row[0]:<56}{row[1]:>10}{row[2]:>12}")
