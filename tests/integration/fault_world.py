# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the fault campaigns work on: machines on two hypervisors, what may be asked for them, and the whole truth."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import re
import shlex
import subprocess
import time
from pathlib import Path
from xml.sax.saxutils import escape

from people import HYPERVISOR, Failed, Person
from test_archipel_agent_pushes import Reader
from xmpp_stream import CLIENT, Refused, Stream

LOOK = (Path(__file__).parent / "faults" / "look.py").read_text()
DECLARATION = "archipel:declaration"
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
RUNNING, PAUSED, SHUTOFF = 1, 3, 5  # virDomainState
# The state that a push leaves behind.
STATES = {"created": RUNNING, "resumed": RUNNING, "suspended": PAUSED, "shutoff": SHUTOFF, "crashed": SHUTOFF}
# Longer than any pause between two attempts to log in or to hand over, all of them together.
PATIENCE = 120
# What an interrupted request may end with.
INTERRUPTED = (Failed, Refused, OSError)
MACHINE = """<domain type='qemu'><memory unit='MiB'>{memory}</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='pc'>hvm</type></os></domain>"""

_number = itertools.count(1)


@dataclasses.dataclass
class Truth:
    """What libvirt, the agents' databases and the XMPP server hold; hosts are names, machines UUIDs."""

    domains: dict[str, dict[str, tuple[str, int]]]  # host: machine: (name, virDomainState)
    rows: dict[str, dict[str, tuple[str, bool]]]  # host: machine: (name, nothing left to do)
    accounts: set[str]
    sessions: set[str]  # full JIDs

    def places(self, uuid: str) -> list[str]:
        """Where libvirt has a machine."""
        return [host for host, domains in self.domains.items() if uuid in domains]

    def state(self, uuid: str) -> int | None:
        """virDomainState of a machine that is on one host at most, None where it is on none."""
        return next((domains[uuid][1] for domains in self.domains.values() if uuid in domains), None)

    def complaints(self, domain: str) -> list[str]:
        """What does not agree; empty when all is as it must be."""
        found = []
        owners: dict[str, list[str]] = {}
        for host, rows in self.rows.items():
            for uuid, (name, settled) in rows.items():
                owners.setdefault(uuid, []).append(host)
                if not settled:
                    found.append(f"{name} has something left to do on {host}")
        machines = {uuid for domains in self.domains.values() for uuid in domains}
        for uuid in sorted(machines):
            if len(self.places(uuid)) > 1:
                found.append(f"libvirt has {uuid} on {self.places(uuid)}")
        for uuid, hosts in owners.items():
            if len(hosts) > 1 or (uuid in machines and self.places(uuid) != hosts):
                found.append(f"agents {hosts} manage {uuid}, libvirt has it on {self.places(uuid)}")
        if self.accounts != set(owners):
            found.append(
                f"accounts without an agent: {self.accounts - set(owners)}, none for {set(owners) - self.accounts}"
            )
        wanted = {f"{host}@{domain}/{host}" for host in self.rows}
        wanted |= {f"{uuid}@{domain}/{host}" for uuid, hosts in owners.items() for host in hosts}
        if self.sessions != wanted:
            found.append(f"online but not managed: {self.sessions - wanted}, not online: {wanted - self.sessions}")
        return found


class Watching(Stream):
    """A stream on which a request to an agent that dies ends at once, instead of after its time limit."""

    asked = ""

    def read(self):
        stanza = super().read()
        if stanza.tag == CLIENT + "presence" and stanza.get("type") == "unavailable":
            if stanza.get("from") == self.asked:
                raise ConnectionError(f"{self.asked} went offline")
        return stanza


class World:
    """The platform, seen as a whole and past the agents, and asked as its automation account."""

    def __init__(self, platform) -> None:
        self.platform = platform
        self.hosts = platform.hypervisors[:2]

    def other(self, host: str) -> str:
        return next(one for one in self.hosts if one != host)

    def look(self, host: str) -> dict:
        """{"domains": {uuid: [name, virDomainState]}, "rows": {uuid: [name, whether nothing is left to do]}}"""
        return json.loads(self.platform.run(host, f"python3 -c {shlex.quote(LOOK)}"))

    def running(self, host: str) -> set[str]:
        """The UUIDs of the machines that run there."""
        return {uuid for uuid, (name, state) in self.look(host)["domains"].items() if state == RUNNING}

    def truth(self) -> Truth:
        """Raises CalledProcessError while a daemon is away."""
        seen = {host: self.look(host) for host in self.hosts}
        command = f"ejabberdctl registered_users {self.platform.domain} && echo && ejabberdctl connected_users"
        accounts, _blank, sessions = self.platform.run(self.platform.xmpp, command).partition("\n\n")
        online = {
            jid for jid in sessions.split() if UUID.match(jid.partition("@")[0]) or jid.partition("@")[0] in self.hosts
        }
        return Truth(
            {host: {uuid: tuple(one) for uuid, one in found["domains"].items()} for host, found in seen.items()},
            {
                host: {uuid: (name, bool(settled)) for uuid, (name, settled) in found["rows"].items()}
                for host, found in seen.items()
            },
            {name for name in accounts.split() if UUID.match(name)},
            online,
        )

    def settled(self) -> Truth:
        """The truth, once libvirt, agents and server agree; fails after PATIENCE with what does not."""
        deadline = time.monotonic() + PATIENCE
        complaints = ["nothing was seen yet"]
        while True:
            with contextlib.suppress(OSError, ValueError, subprocess.CalledProcessError):
                truth = self.truth()
                complaints = truth.complaints(self.platform.domain)
                if not complaints:
                    return truth
            assert time.monotonic() < deadline, "\n".join(complaints)
            time.sleep(0.5)

    @contextlib.contextmanager
    def person(self, asked: str, timeout: float = 60):
        """Somebody who is about to ask the hypervisor of that full JID."""
        with self._connected(timeout) as stream:
            stream.login("automation", self.platform.password("automation"), f"faults{next(_number)}")
            stream.asked = asked
            # Hypervisors then show their presence to it: they are in its roster.
            stream.write("<presence/>")
            yield Person(stream, self.platform.domain)

    def _connected(self, timeout: float) -> Watching:
        """Waits for a server that is starting."""
        address = (self.platform.address(self.platform.xmpp), 5222)
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return Watching(address, self.platform.domain, self.platform.ca_file, timeout)
            except ConnectionError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.5)

    def told(self, uuid: str) -> int:
        """The state that a machine's pushes tell of, as an administrator reads them on its node."""
        jid = f"{uuid}@{self.platform.domain}"
        with self._connected(30) as stream:
            stream.login("admin", self.platform.password("admin"), f"faults{next(_number)}")
            pushes = Reader(Person(stream, self.platform.domain)).kept(jid)
        states = [STATES[change] for kind, change in pushes if kind == "virtualmachine:control" and change in STATES]
        return states[-1] if states else SHUTOFF

    # What may be asked. Each raises one of INTERRUPTED.

    def declare(self, host: str, action: str, content: dict) -> dict:
        with self.person(self.jid(host)) as person:
            answer = person.act(self.jid(host), DECLARATION, action, escape(json.dumps(content)))
        return json.loads(answer.text)

    def apply(self, host: str, uuid: str, name: str, state: str, memory: int = 32) -> dict:
        """One machine of the declaration `apply`; a result that is an error is raised."""
        wanted = {"uuid": uuid, "name": name, "state": state, "force": True, "shutdown_timeout": 1}
        if state != "absent":
            wanted["domain"] = MACHINE.format(memory=memory)
        result = self.declare(host, "apply", {"vms": [wanted]})["results"][0]
        if "error" in result:
            raise Failed(result.get("code", 0), "declaration", result["error"])
        return result

    def migrate(self, source: str, uuid: str, target: str) -> None:
        self.declare(source, "migrate", {"uuid": uuid, "to": target})

    def act(self, host: str, action: str, uuid: str) -> None:
        """`manage` and `unmanage`."""
        with self.person(self.jid(host)) as person:
            person.act(self.jid(host), HYPERVISOR, action, f"<item jid='{uuid}@{self.platform.domain}'/>")

    def virsh(self, host: str, command: str) -> None:
        """Behind the agents' back; a command that libvirt refuses is no failure."""
        self.platform.run(host, f"virsh -q {command}", check=False)

    def define(self, host: str, uuid: str, name: str) -> None:
        xml = MACHINE.format(memory=32).replace("<memory", f"<name>{name}</name><uuid>{uuid}</uuid><memory", 1)
        path = f"/tmp/{name}.xml"
        self.platform.run(host, f"printf %s {shlex.quote(xml)} > {path}; virsh -q define {path}; rm {path}")

    def jid(self, host: str) -> str:
        return f"{host}@{self.platform.domain}/{host}"

    def remove(self, uuid: str, name: str) -> None:
        """Whatever there is of a machine, anywhere."""
        for host in self.hosts:
            with contextlib.suppress(*INTERRUPTED):
                self.apply(host, uuid, name, "absent")
            self.virsh(host, f"destroy {uuid}")
            self.virsh(host, f"undefine {uuid}")
            with contextlib.suppress(*INTERRUPTED):
                self.act(host, "unmanage", uuid)
