# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""One agent with 500 virtual machines of libvirt's test driver, logged in to the lab's XMPP server.

It takes the place of the first hypervisor's agent for the time of the measurement. Its machines and their accounts go
at the end.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
import tempfile
import time
import typing as t
import uuid
from pathlib import Path
from xml.etree import ElementTree as ET

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "integration")]

import pushes  # noqa: E402 - the path comes first
from conftest import Platform  # noqa: E402 - as above
from xmpp_stream import CLIENT, Refused, Stream  # noqa: E402 - as above

MACHINES = 500
REQUESTS = 2000
WINDOW = 64
EVENTS = 1000
RATE = 100  # events a second
FOLDER = "/var/lib/archipel/benchmark"
# virDomainEventType
CHANGES = {"3": "suspended", "4": "resumed"}

_SETUP = """
set -e
systemctl stop archipel-agent
install -d -o archipel -m 0700 {folder}
sed -e 's#^libvirt_uri = .*#libvirt_uri = test+unix:///default?socket=/run/libvirt/libvirt-sock#' \
  -e 's#^archipel_folder_lib = .*#archipel_folder_lib = {folder}#' \
  -e 's#^logging_file_path = .*#logging_file_path = {folder}/log#' /etc/archipel/archipel.conf > {folder}/archipel.conf
chown -R archipel {folder}
systemd-run -q --collect --unit archipel-benchmark-machines python3 {folder}/machines.py {folder} {rate} {events}
until [ -e {folder}/ready ]; do sleep 0.2; done
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
        for name, value in (("folder", FOLDER), ("rate", RATE), ("events", EVENTS)):
            command = command.replace(f"{{{name}}}", str(value))
        return self._platform.run(self.host, command)

    def set_up(self) -> None:
        script = (ROOT / "tests" / "benchmark" / "machines.py").read_text()
        self.run("install -d {folder}")
        for name, content in (("machines.py", script), ("uuids", "\n".join(self.uuids))):
            self.run(f"cat > {{folder}}/{name} <<'EOF'\n{content}\nEOF")
        self.run(_SETUP)

    def start(self) -> None:
        self.run(_START)

    def stop(self) -> None:
        self.run("systemctl stop archipel-benchmark")

    def tear_down(self) -> None:
        # The hypervisor's own agent is to make its vCard and node again.
        forget = "import sqlite3; sqlite3.connect('/var/lib/archipel/pushes.sqlite3').executescript('DELETE FROM made')"
        self.run("systemctl stop archipel-benchmark archipel-benchmark-machines; rm -rf {folder}")
        self.run(f'runuser -u archipel -- python3 -c "{forget}"; systemctl start archipel-agent')

    def machine(self, number: int) -> str:
        return f"{self.uuids[number]}@{self._platform.domain}/{self.host}"

    def settle(self) -> None:
        """Waits until all nodes and vCards are made, as they are before any start but the first."""
        self._await("pushes", "made", lambda count: count >= 2 * (MACHINES + 1))

    def leave(self) -> None:
        """Waits until all accounts are gone."""
        self._await("hypervisor", "virtualmachines", lambda count: count == 0)

    def _await(self, database: str, table: str, enough: t.Callable[[int], bool]) -> None:
        query = f"connect('{FOLDER}/{database}.sqlite3').execute('SELECT count(*) FROM {table}').fetchone()[0]"
        command = f'runuser -u archipel -- python3 -c "import sqlite3; print(sqlite3.{query})"'
        deadline = time.monotonic() + 300
        while not enough(count := int(self.run(command))):
            if time.monotonic() > deadline:
                sys.exit(f"{table} has {count} rows after 300 s")
            time.sleep(1)

    def memory(self) -> int:
        """KiB that the process holds."""
        return int(re.search(r"VmRSS:\s+(\d+)", self.run(f"cat /proc/{self._pid()}/status")).group(1))

    def processor(self) -> float:
        """Seconds of processor that the agent has had so far."""
        return _processor(self.run(f"cat /proc/{self._pid()}/stat"))

    def usage(self) -> dict[str, float]:
        """Seconds of processor so far of all that have a part in a measurement."""
        libvirt = self.run("cat /proc/$(pgrep -ox libvirtd)/stat")
        server = self._platform.run(self._platform.xmpp, "cat /proc/$(pgrep -ox beam.smp)/stat")
        return {
            "agent": self.processor(),
            "XMPP server": _processor(server),
            "libvirt daemon": _processor(libvirt),
            "client": time.process_time(),
        }

    def usage_since(self, before: dict[str, float]) -> dict[str, float]:
        """The same, less what it was."""
        return {who: seconds - before[who] for who, seconds in self.usage().items()}

    def begin_events(self) -> None:
        self.run("systemctl kill --signal=USR1 archipel-benchmark-machines")

    def events(self) -> dict[tuple[str, str], float]:
        """When a listener on the host heard of each event, by UUID and change."""
        text = self.run("until [ -e {folder}/events ]; do sleep 0.2; done; cat {folder}/events")
        found = [line.split() for line in text.splitlines()]
        return {(uuid, CHANGES[event]): float(when) for when, uuid, event in found}

    def _pid(self) -> str:
        return self.run("systemctl show -P MainPID archipel-benchmark").strip()


def _processor(stat: str) -> float:
    """Seconds of processor in a text of /proc/PID/stat (proc(5))."""
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


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

    def online(self, machines: t.Sequence[str]) -> None:
        """Waits until every one of ``machines`` (JIDs) answers a ping; asks a few at a time, so that it is no load."""
        begin = time.monotonic()
        left = set(range(len(machines)))
        while left:
            asked = sorted(left)[:16]
            pings = (
                f"<iq type='get' id='p{number}' to='{machines[number]}'><ping xmlns='urn:xmpp:ping'/></iq>"
                for number in asked
            )
            self.stream.write("".join(pings))
            answered = self._answered(set(asked))
            left -= answered
            if len(answered) < len(asked):
                time.sleep(0.1)
            if time.monotonic() - begin > 600:
                sys.exit(f"{len(left)} machines are not online after 600 s")

    def _answered(self, asked: set[int]) -> set[int]:
        """Those that answer; an answer may be lost with the session that was to carry it."""
        answered = set()
        before = self.stream.timeout(1)
        with contextlib.suppress(TimeoutError):
            while asked:
                stanza = self._read()
                if stanza.get("id", "").startswith("p") and stanza.get("type") in ("result", "error"):
                    number = int(stanza.get("id", "")[1:])
                    asked.discard(number)
                    answered |= {number} if stanza.get("type") == "result" else set()
        self.stream.timeout(before)
        return answered


def action(namespace: str, action: str, text: str = "") -> str:
    return f"<query xmlns='{namespace}'><archipel action='{action}'>{text}</archipel></query>"


def rows(inventory: str) -> t.Iterator[tuple[str, str, str]]:
    """The lines of the table, as they are measured: what, measured, wanted."""
    with tempfile.TemporaryDirectory() as directory:
        platform = Platform(inventory, Path(directory))
        fleet = Fleet(platform)
        fleet.set_up()
        try:
            yield from _measure(platform, fleet)
        finally:
            try:
                _unmanage(platform, fleet)
            finally:
                fleet.tear_down()


def _unmanage(platform: Platform, fleet: Fleet) -> None:
    # Where the agent itself is what failed, its accounts stay.
    with contextlib.suppress(Refused, OSError), log_in(platform) as client:
        items = "".join(f"<item jid='{one}@{platform.domain}'/>" for one in fleet.uuids)
        client.stream.timeout(300)
        client.ask_all([(fleet.jid, action("archipel:hypervisor:control", "unmanage", items))])
        fleet.leave()


@contextlib.contextmanager
def log_in(platform: Platform):
    with platform.stream() as stream:
        stream.timeout(120)
        stream.login("automation", platform.password("automation"), uuid.uuid4().hex)
        yield Client(stream)


def _measure(platform: Platform, fleet: Fleet) -> t.Iterator[tuple[str, str, str]]:
    fleet.start()
    time.sleep(5)
    empty = fleet.memory()
    machines = [fleet.machine(number) for number in range(MACHINES)]
    with log_in(platform) as client:
        items = "".join(f"<item jid='{one}@{platform.domain}'/>" for one in fleet.uuids)
        client.ask_all([(fleet.jid, action("archipel:hypervisor:control", "manage", items))])
        client.online(machines)
        fleet.settle()
        fleet.stop()
        begin = time.monotonic()
        fleet.start()
        client.online(machines)
        online = time.monotonic() - begin
        yield (f"{MACHINES} machines of one agent online after its start", f"{online:.1f} s", "8 s")
        client.rest(20)
        memory = (fleet.memory() - empty) / MACHINES
        yield ("memory of each", f"{memory:.0f} KiB", "400 KiB")
        before = fleet.processor()
        client.rest(20)
        idle = (fleet.processor() - before) / 20 * 100
        yield ("processor of the idle agent", f"{idle:.2f} %", "1 %")
        info = action("archipel:vm:control", "info")
        requests = [(fleet.machine(number % MACHINES), info) for number in range(REQUESTS)]
        busy = fleet.usage()
        rate = REQUESTS / min(client.ask_all(requests) for dummy in range(3))
        spent = fleet.usage_since(busy)
        yield ("info requests over one session", f"{rate:.0f}/s", "1000/s")
        for who, seconds in spent.items():
            yield (f"processor of the {who} for each of them", f"{seconds / 3 / REQUESTS * 1000:.2f} ms", "")
        inventory = [(fleet.jid, action("archipel:declaration", "inventory", json.dumps({})))]
        listing = min(client.ask_all(inventory) for dummy in range(3)) * 1000
        yield (f"inventory of {MACHINES} machines", f"{listing:.0f} ms", "250 ms")
        with log_in(platform) as reader:
            yield from pushes.measured(platform, fleet, reader.stream, RATE, EVENTS)


if __name__ == "__main__":
    for row in rows(str(ROOT / "inventories" / "lab" / "hosts")):
        print(f"{row[0]:<56}{row[1]:>10}{row[2]:>12}", flush=True)
