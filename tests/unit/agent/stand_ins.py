# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""As much of an agent and its entities as chat and menus look at. Every action of their commands notes that it ran."""

from __future__ import annotations

import dataclasses
import types
import typing as t
from xml.etree import ElementTree as ET

from archipel_agent import commands, dispatch
from archipel_agent.permissions import Permissions
from archipel_protocol import errors, namespaces as ns, states

WEB_UUID = "11111111-2222-4333-8444-555555555555"
DB_UUID = "22222222-2222-4333-8444-555555555555"
ADMIN, OPS, STRANGER = "admin@example.org/pc", "ops@example.org/phone", "stranger@elsewhere.net/x"

INFO = {"state": "1", "maxMem": "1048576", "memory": "524288", "nrVirtCpu": "2", "cpuPrct": "3.1", "autostart": "1"}
COUNTERS = {"rx_bytes": "10", "tx_bytes": "20", "rx_errs": "1", "tx_errs": "0"}
HOST = {"model": "x86_64", "memory": "4096", "nrCPU": "8", "mHzCPU": "2400"}
NODE = {**HOST, "nrNumaNodes": "1", "nrSockets": "2", "nrCoreperSocket": "4", "nrThreadperCore": "1"}

CAPABILITIES = """<capabilities><host/><guest><os_type>hvm</os_type><arch name='x86_64'><domain type='qemu'/>
<domain type='kvm'/></arch></guest><guest><os_type>hvm</os_type><arch name='i686'><domain type='qemu'/></arch></guest>
</capabilities>"""


def _text(tag: str, text: str) -> ET.Element:
    element = ET.Element(tag)
    element.text = text
    return element


PAYLOADS = {
    "info": [ET.Element("info", {**INFO, "hypervisor": "hv1@example.org/hv1"})],
    "xmldesc": [ET.Element("not-defined")],
    "networkinfo": [ET.Element("network", {"name": "net0", **COUNTERS})],
    "nodeinfo": [ET.Element("nodeinfo", NODE)],
    "migrationinfo": [ET.Element("migration", {"libvirt_uri": "qemu+tls://192.0.2.1/system", "base_folder": "/vm"})],
    "capabilities": [ET.fromstring(CAPABILITIES)],
    "ip": [_text("ip", "192.0.2.1")],
    **dict.fromkeys(["alloc", "clone", "free"], [ET.Element("virtualmachine", {"jid": f"{DB_UUID}@example.org"})]),
}


@dataclasses.dataclass
class Entity:
    """A hypervisor or a machine."""

    agent: t.Any
    kind: str
    jid: str
    name: str
    uuid: str = ""
    bare: str = ""
    state: int | None = states.SHUTOFF
    identity: tuple[str, str] = ("client", "bot")


class World:
    """hv1 with the machines web and db; ``done`` lists (entity, action, attributes) of what was carried out."""

    def __init__(self, monkeypatch) -> None:
        self.done: list[tuple[str, str, dict[str, str]]] = []
        permissions = Permissions(
            root_admins=frozenset(["admin@example.org"]), grants={"ops@example.org": frozenset(["info", "create"])}
        )
        self.agent = types.SimpleNamespace(
            domain="example.org",
            node="hv1",
            permissions=permissions,
            vms={},
            config=types.SimpleNamespace(peers={"hv2": None, "hv3": None}),
        )
        self.hypervisor = Entity(self.agent, "hypervisor", "hv1@example.org/hv1", "hv1")
        self.web, self.db = self._machine(WEB_UUID, "web"), self._machine(DB_UUID, "db")
        monkeypatch.setattr(dispatch, "_HANDLERS", {})
        for on, namespace, action in {(one.on, one.namespace, one.action) for one in commands.COMMANDS}:
            self.declare(on, namespace, action)

    def declare(self, on: str, namespace: str, action: str) -> None:
        @dispatch.handler(namespace, action, action, on=on)
        async def note(entity, request):
            self.done.append((entity.name, request.action, request.attributes))
            if request.action == "suspend":
                raise errors.LibvirtError("domain is not running", 55)
            if request.action == "rostervm":
                return [self._item(machine) for machine in self.agent.vms.values()]
            return PAYLOADS.get(request.action)

    def _machine(self, uuid: str, name: str) -> Entity:
        bare = f"{uuid}@example.org"
        machine = self.agent.vms[uuid] = Entity(self.agent, "vm", f"{bare}/hv1", name, uuid, bare)
        return machine

    def _item(self, machine: Entity) -> ET.Element:
        item = ET.Element(f"{{{ns.HYPERVISOR_CONTROL}}}item", {"managed": "True", "name": machine.name})
        item.text = machine.jid
        return item
