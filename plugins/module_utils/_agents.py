# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The agents of the platform, asked all at once.

Private to this collection; it may change without notice.
"""

from __future__ import annotations

import typing as t
from xml.etree import ElementTree as ET

from ._client import OFFLINE, Client, Pending, Request
from ._errors import AgentOffline, Conflict, HypervisorUnknown, StanzaError
from .archipel_protocol import declaration, jids, namespaces as ns, payloads
from .archipel_protocol.declaration import Facts
from .archipel_protocol.errors import ArchipelError, MalformedRequest

# Machines that one answer may tell of; the agents send fewer where no more fit into a stanza.
PAGE = 1000
# What a server answers who asks for the vCard of nobody (XEP-0054, 3.2), or keeps none.
_NO_CARD = frozenset(("item-not-found", "service-unavailable"))


class Inventory(t.NamedTuple):
    """``vms`` of all hypervisors that answered, and why the others (nodes) did not.

    ``undefined``: name, UUID and hypervisor of those whose agent manages it while libvirt there has no such domain.
    """

    vms: list[Facts]
    silent: dict[str, ArchipelError]
    undefined: list[Facts]

    @property
    def holders(self) -> dict[str, list[str]]:
        """The hypervisors of what is undefined, by UUID."""
        found: dict[str, list[str]] = {}
        for one in self.undefined:
            found.setdefault(one["uuid"], []).append(one["hypervisor"])
        return found


def reasons_of(silent: t.Mapping[str, ArchipelError]) -> list[dict[str, str]]:
    """The hypervisors that did not answer, and why, as modules return them."""
    return [{"hypervisor": node, "reason": error.message} for node, error in sorted(silent.items())]


class Agents:
    """The agents behind one client's session. ``known`` are the nodes of all hypervisors, online or not."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.domain = client.domain
        self._begun: dict[Pending, tuple[t.Any, str]] = {}
        self._told: list[tuple[t.Any, t.Any]] = []
        self.known = client.hypervisors()
        if not self.known:
            raise HypervisorUnknown(
                f"{jids.bare(client.options.jid)} knows no hypervisors: the group 'hypervisors' of its roster is "
                "empty; log in as the platform's automation account, or as an administrator"
            )

    def require(self, hypervisor: str, option: str = "hypervisor") -> None:
        """Raises HypervisorUnknown where ``hypervisor``, the value of ``option``, is none of the platform's."""
        if hypervisor not in self.known:
            raise HypervisorUnknown(
                "{}: '{}' is not a hypervisor of this platform; there are {}".format(
                    option, hypervisor, ", ".join(self.known)
                )
            )

    def inventory(
        self,
        names: t.Sequence[str] | None = None,
        uuids: t.Sequence[str] | None = None,
        details: bool = False,
        hypervisors: t.Sequence[str] | None = None,
        addresses: t.Sequence[str] = (),
    ) -> Inventory:
        """The domains with one of ``names`` or ``uuids`` (both None: all) on ``hypervisors`` (None: all).

        ``addresses``: which of declaration.ADDRESS_SOURCES are asked for the machines' addresses.
        """
        request: dict[str, t.Any] = {"details": details, "max": PAGE}
        if names is not None:
            request["names"] = sorted(names)
        if uuids is not None:
            request["uuids"] = sorted(uuids)
        if addresses:
            request["addresses"] = sorted(addresses)
        asked = self.known if hypervisors is None else hypervisors
        pending: dict[str, dict[str, t.Any]] = dict.fromkeys(asked, request)
        vms: dict[str, list[Facts]] = {node: [] for node in asked}
        silent: dict[str, ArchipelError] = {}
        undefined: list[Facts] = []
        while pending:
            answers, sent, pending = self.declare(declaration.INVENTORY, pending), pending, {}
            for node, answer in answers.items():
                if isinstance(answer, ArchipelError):
                    # Half of its machines would look as if the others were gone.
                    silent[node] = answer
                    continue
                vms[node].extend(answer.get("vms", []))
                for uuid, name in answer.get("undefined", {}).items():
                    undefined.append(Facts(name=name, uuid=uuid, hypervisor=node, managed=True))
                following = answer.get("next")
                if following is not None and following > sent[node].get("after", ""):
                    pending[node] = {**request, "after": following}
        told = [vm for node in asked if node not in silent for vm in sorted(vms[node], key=lambda vm: vm["name"])]
        return Inventory(told, silent, undefined)

    def registered(self, uuids: t.Sequence[str]) -> set[str]:
        """Those of ``uuids`` whose virtual machine has an account, as far as a server tells who is no administrator.

        Its agent has given it a vCard, which anybody may read, and which goes with the account.
        """
        card = ET.Element(f"{{{ns.VCARD}}}vCard")
        answers = self.client.gather([Request(jids.vm_jid(uuid, self.domain), card, kind="get") for uuid in uuids])
        found = set()
        for uuid, answer in zip(uuids, answers):
            if isinstance(answer, StanzaError) and answer.condition in _NO_CARD:
                continue
            if isinstance(answer, ArchipelError):
                raise answer
            if answer is not None and len(answer):
                found.add(uuid)
        return found

    def declare(
        self,
        action: str,
        requests: t.Mapping[str, t.Mapping[str, t.Any]],
        work: float = 0.0,
        namespace: str = ns.DECLARATION,
    ) -> dict[str, dict[str, t.Any] | ArchipelError]:
        """Sends each hypervisor an action whose payload is JSON; ``work`` is the seconds that it may take."""
        elements = {
            node: payloads.request(namespace, action, text=declaration.encode(request))
            for node, request in requests.items()
        }
        return {
            node: answer if isinstance(answer, ArchipelError) else _decoded(node, answer)
            for node, answer in self.ask(elements, work).items()
        }

    async def asked(self, node: str, action: str, request: t.Mapping[str, t.Any]) -> dict[str, t.Any] | ArchipelError:
        """As declare() of one hypervisor, for what runs beside() the client."""
        element = payloads.request(ns.DECLARATION, action, text=declaration.encode(request))
        answer = await self.client.asked(Request(jids.hypervisor_jid(node, self.domain), element))
        return answer if isinstance(answer, ArchipelError) else _decoded(node, answer)

    def begin(self, key: t.Any, node: str, action: str, request: t.Mapping[str, t.Any], work: float = 0.0) -> None:
        """Sends a hypervisor what declare() would, without waiting; answers() has the answer, with ``key``."""
        sent = self._request(node, payloads.request(ns.DECLARATION, action, text=declaration.encode(request)), work)
        if isinstance(sent, ArchipelError):
            self.put(key, sent)
        else:
            self._begun[self.client.begin(sent)] = (key, node)

    def put(self, key: t.Any, answer: t.Any) -> None:
        """Has answers() tell ``answer``, for what need not be asked."""
        self._told.append((key, answer))

    def answers(self) -> list[tuple[t.Any, t.Any]]:
        """Waits until at least one of what was begun is answered; the keys and answers, as declare() has them."""
        told, self._told = self._told, []
        if told:
            return told
        for pending in self.client.finished(list(self._begun)):
            key, node = self._begun.pop(pending)
            answer = pending.result()
            error = isinstance(answer, ArchipelError)
            told.append((key, _explained(node, answer) if error else _decoded(node, answer)))
        return told

    def ask(
        self, elements: t.Mapping[str, ET.Element], work: float = 0.0
    ) -> dict[str, ET.Element | ArchipelError | None]:
        """Sends each hypervisor its <query/>; in the place of an answer, an error that names the hypervisor."""
        answers: dict[str, ET.Element | ArchipelError | None] = {}
        requests: dict[str, Request] = {}
        for node, element in elements.items():
            sent = self._request(node, element, work)
            if isinstance(sent, ArchipelError):
                answers[node] = sent
            else:
                requests[node] = sent
        answers.update(zip(requests, self.client.gather(list(requests.values()))))
        return {
            node: _explained(node, answer) if isinstance(answer, ArchipelError) else answer
            for node, answer in ((node, answers[node]) for node in elements)
        }

    def _request(self, node: str, element: ET.Element, work: float) -> Request | ArchipelError:
        try:
            # The server would end the session.
            payloads.check_size(element, f"the request to {node}")
        except ArchipelError as exc:
            return exc
        return Request(jids.hypervisor_jid(node, self.domain), element, timeout=self.client.options.timeout + work)


def chosen(
    inventory: Inventory, names: t.Collection[str], uuids: t.Collection[str], required: bool = True
) -> list[Facts]:
    """The domains of ``inventory`` that are meant: each of ``names`` and ``uuids`` once, all if both are empty.

    Raises Conflict where one does not exist, if that is ``required``, or exists more than once, and AgentOffline where
    that cannot be known.
    """
    reasons = "; ".join(error.message for dummy, error in sorted(inventory.silent.items()))
    if reasons and not (names or uuids):
        raise AgentOffline(reasons)
    found: list[Facts] = [] if names or uuids else list(inventory.vms)
    for key, values in (("name", names), ("uuid", uuids)):
        for value in values:
            vms = [vm for vm in inventory.vms if vm[key] == value]
            if len(vms) > 1:
                raise Conflict(
                    "'{}' exists on {}; say which one with hypervisor or uuid".format(
                        value, " and ".join(sorted(vm["hypervisor"] for vm in vms))
                    )
                )
            if not vms and reasons:
                raise AgentOffline(f"{key}: '{value}' was found nowhere, but {reasons}")
            if not vms and required:
                raise Conflict(f"{key}: no hypervisor that was asked has a domain '{value}'")
            found.extend(vm for vm in vms if vm not in found)
    return found


def _explained(node: str, error: ArchipelError) -> ArchipelError:
    """``error``, or what it means in terms of the platform."""
    if isinstance(error, StanzaError) and error.condition in OFFLINE:
        return AgentOffline(f"the agent of {node} is offline; start archipel-agent there")
    return error


def _decoded(node: str, answer: ET.Element | None) -> dict[str, t.Any] | ArchipelError:
    try:
        return declaration.decode(None if answer is None else answer.text)
    except MalformedRequest as exc:
        return MalformedRequest(f"the answer of {node} is not understood: {exc.message}")
