# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who is on the wire in the tests of the agent: people that are logged in, and machines made with plain virsh."""

from __future__ import annotations

import time
import uuid as uuidlib
from xml.etree import ElementTree as ET
from xml.sax.saxutils import quoteattr

from xmpp_stream import CLIENT, Refused

HYPERVISOR = "archipel:hypervisor:control"
CONTROL = "archipel:vm:control"
DEFINITION = "archipel:vm:definition"
PATIENCE = 30

DOMAIN = """<domain type='qemu'><name>{name}</name><uuid>{uuid}</uuid><memory unit='MiB'>128</memory>
<os><type arch='x86_64' machine='q35'>hvm</type></os><features><acpi/></features>
<devices>{devices}</devices></domain>"""
SECRET = "never-to-be-seen"
SCREEN = "<graphics type='vnc' autoport='yes' listen='127.0.0.1'{}/>"


class Failed(Exception):
    """An answer in Archipel's error form."""

    def __init__(self, code: int, kind: str, text: str) -> None:
        super().__init__(f"{code} {kind}: {text}")
        self.code, self.kind, self.text = code, kind, text


class Person:
    """Somebody who is logged in."""

    def __init__(self, stream, domain: str) -> None:
        self.stream = stream
        self.domain = domain
        self.presences: list[ET.Element] = []

    def act(self, to: str, namespace: str, action: str, content: str = "", **attributes: str) -> ET.Element:
        """The <query/> of the answer; raises Failed or Refused."""
        number = uuidlib.uuid4().hex
        more = "".join(f" {name}={quoteattr(value)}" for name, value in attributes.items())
        query = f"<query xmlns='{namespace}'><archipel action='{action}'{more}>{content}</archipel></query>"
        self.stream.write(f"<iq type='set' id='{number}' to={quoteattr(to)}>{query}</iq>")
        while True:
            stanza = self.stream.read()
            if stanza.tag == CLIENT + "presence":
                self.presences.append(stanza)
            if stanza.tag == CLIENT + "iq" and stanza.get("id") == number:
                break
        if stanza.get("type") == "result":
            return stanza[0]
        error = stanza.find(CLIENT + "error")
        archipel = [child for child in error if child.tag.startswith(("{archipel:", "{libvirt:"))]
        if not archipel:
            raise Refused(error[0].tag.partition("}")[2])
        text = "".join(child.text or "" for child in error if child.tag.endswith("text"))
        raise Failed(int(error.get("code")), archipel[0].tag.partition("}")[2], text)

    def shows(self, jid: str, status: str, seconds: float = PATIENCE) -> str:
        """Waits for the presence of an entity to have ``status``; its <show/>."""
        told = f"{jid} does not show {status!r}"
        found = self._presence(
            lambda one: (one.get("from"), one.findtext(CLIENT + "status")) == (jid, status), told, seconds
        )
        return found.findtext(CLIENT + "show", "")

    def hears(self, jid: str, kind: str, seconds: float = PATIENCE) -> ET.Element:
        """Waits for a presence of this type from an entity."""
        told = f"{jid} sends no {kind!r}"
        return self._presence(lambda one: (one.get("from"), one.get("type")) == (jid, kind), told, seconds)

    def _presence(self, wanted, told: str, seconds: float) -> ET.Element:
        deadline = time.monotonic() + seconds
        while True:
            while self.presences:
                presence = self.presences.pop(0)
                if wanted(presence):
                    return presence
            assert time.monotonic() < deadline, told
            stanza = self.stream.read()
            if stanza.tag == CLIENT + "presence":
                self.presences.append(stanza)


class Machine:
    """A domain of the first hypervisor, and its addresses."""

    def __init__(self, platform) -> None:
        self.platform = platform
        self.host = platform.hypervisors[0]
        self.uuid = str(uuidlib.uuid4())
        self.name = "agent-test-" + self.uuid[:8]
        self.bare = f"{self.uuid}@{platform.domain}"
        self.jid = f"{self.bare}/{self.host}"

    def define(self, devices: str = "") -> Machine:
        xml = DOMAIN.format(name=self.name, uuid=self.uuid, devices=devices)
        self.run(f"cat > /tmp/{self.name}.xml <<'END'\n{xml}\nEND\nvirsh -q define /tmp/{self.name}.xml")
        return self

    def run(self, command: str, check: bool = True) -> str:
        return self.platform.run(self.host, command, check)

    def virsh(self, command: str) -> str:
        return self.run(f"virsh -q {command} {self.uuid}").strip()

    def remove(self) -> None:
        for command in ("destroy", "undefine --nvram --managed-save"):
            self.run(f"virsh -q {command} {self.uuid}", check=False)
        self.run(f"rm -f /tmp/{self.name}.xml")


def manage(person, hypervisor, machine):
    """Brings a domain under management and waits for its login, which its presence tells."""
    person.act(hypervisor, HYPERVISOR, "manage", f"<item jid='{machine.bare}'/>")
    until(lambda: answers(person, machine.jid))


def answers(person, jid):
    """The answer of an entity; None while it or libvirt is away, or if it was killed with the request in its hands."""
    try:
        return person.act(jid, CONTROL, "info")
    except (Refused, TimeoutError):
        return None
    except Failed as failed:
        if "out of reach" not in failed.text:
            raise
        return None


def until(condition, seconds=PATIENCE):
    """The first truth of ``condition``."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, "it does not come about"
        time.sleep(0.1)
