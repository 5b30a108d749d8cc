# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Thousands of machines: what does not fit into one stanza is asked for, and declared, in several."""

from __future__ import annotations

import pytest
from ansible_collections.archipel.platform.plugins.module_utils import _agents, _converge
from ansible_collections.archipel.platform.plugins.module_utils._errors import NoAnswer
from ansible_collections.archipel.platform.plugins.module_utils.archipel_protocol import declaration, payloads

from .specs import spec
from .stand_in import Client


def machine(number, node):
    uuid = f"{number:08x}-0000-4000-8000-000000000000"
    return {"name": f"{node}-{9999 - number}", "uuid": uuid, "hypervisor": node}


def paged(machines):
    """An agent's answers."""

    def answer(node, action, request):
        left = [one for one in machines[node] if one["uuid"] > request.get("after", "")]
        found = {"vms": left[: request["max"]]}
        return {**found, "next": found["vms"][-1]["uuid"]} if len(left) > request["max"] else found

    return answer


def test_an_inventory_is_read_to_its_end():
    machines = {
        "hv1": [machine(number, "hv1") for number in range(2 * _agents.PAGE + 1)],
        "hv2": [machine(number, "hv2") for number in range(_agents.PAGE)],
    }
    client = Client(paged(machines))
    found = _agents.Agents(client).inventory(details=True)
    assert client.rounds == [["hv1", "hv2"], ["hv1"], ["hv1"]]
    assert found.silent == {}
    assert found.vms == [one for node in machines for one in sorted(machines[node], key=lambda one: one["name"])]


@pytest.mark.parametrize(("sources", "sent"), [([], None), (["lease", "agent"], ["agent", "lease"])])
def test_addresses_are_asked_for_where_they_are_wanted(sources, sent):
    """On every page; an agent of another release is not sent what it does not know."""
    requests = []

    def answer(node, action, request):
        requests.append(request.get("addresses"))
        return {"vms": [], **({} if "after" in request else {"next": "a"})}

    _agents.Agents(Client(answer)).inventory(addresses=sources)
    assert requests == [sent] * 4


def test_a_hypervisor_that_falls_silent_halfway_is_silent():
    known = paged({node: [machine(number, node) for number in range(_agents.PAGE + 1)] for node in ("hv1", "hv2")})

    def answer(node, action, request):
        if node == "hv1" and "after" in request:
            raise NoAnswer("hv1 does not answer")
        return known(node, action, request)

    found = _agents.Agents(Client(answer)).inventory()
    assert list(found.silent) == ["hv1"]
    assert {one["hypervisor"] for one in found.vms} == {"hv2"} and len(found.vms) == _agents.PAGE + 1


def test_an_agent_that_does_not_go_on_is_not_asked_for_ever():
    client = Client(lambda node, action, request: {"vms": [], "next": "a"})
    _agents.Agents(client).inventory()
    assert len(client.rounds) == 2


@pytest.fixture
def declared():
    """(client, what each request declared) of agents that have nothing and make everything."""
    requests = []

    def answer(node, action, request):
        if action == declaration.INVENTORY:
            return {"vms": []}
        requests.append([one["name"] for one in request["vms"]])
        if len(requests) == 2 and "broken" in requests[0]:
            raise NoAnswer("hv1 does not answer")
        return {"results": [{"uuid": one["uuid"], "actions": [one["name"]], "changed": True} for one in request["vms"]]}

    return Client(answer), requests


def specs(names, **more):
    return [spec(name=name, hypervisor="hv1", memory="1GiB", **more) for name in names]


def test_many_declarations_go_one_batch_after_the_other_and_come_back_in_order(declared):
    client, requests = declared
    names = [f"vm-{number}" for number in range(declaration.MAX_BATCH + 3)]
    outcomes = _converge.converge(_agents.Agents(client), specs(names), _converge.Manner(check=True))
    assert [len(request) for request in requests] == [declaration.MAX_BATCH, 3]
    assert [outcome.actions for outcome in outcomes] == [[name] for name in names]


def test_large_declarations_go_in_stanzas_that_the_server_takes(declared):
    client, requests = declared
    names = ["a", "b", "c"]
    large = f"<domain><description>{'x' * (payloads.MAX_STANZA // 3)}</description></domain>"
    outcomes = _converge.converge(_agents.Agents(client), specs(names, xml=large), _converge.Manner())
    assert [outcome.error for outcome in outcomes] == [None] * 3
    assert requests == [["a", "b"], ["c"]]


def test_one_that_is_too_large_by_itself_is_refused_before_it_is_sent(declared):
    client, requests = declared
    large = f"<domain><description>{'x' * payloads.MAX_STANZA}</description></domain>"
    (outcome,) = _converge.converge(_agents.Agents(client), specs(["a"], xml=large), _converge.Manner())
    assert "the request to hv1 is larger than the 4092 KiB of a stanza" in outcome.error.message
    assert requests == []


def test_a_hypervisor_that_fails_is_not_asked_for_the_rest(declared):
    client, requests = declared
    names = ["broken", *(f"vm-{number}" for number in range(3 * declaration.MAX_BATCH))]
    outcomes = _converge.converge(_agents.Agents(client), specs(names), _converge.Manner())
    # Those that were on their way with the one that failed, and one in the place of the first.
    assert len(requests) == 5
    answered = {name for number, names in enumerate(requests) if number != 1 for name in names}
    failed = [outcome.name for outcome in outcomes if outcome.error is not None]
    assert failed == [name for name in names if name not in answered]
    assert outcomes[-1].error.message == f"'{names[-1]}' on hv1: hv1 does not answer"


def test_an_answer_that_leaves_machines_out_is_not_believed():
    client = Client(lambda node, action, request: {"vms": [], "results": []})
    (outcome,) = _converge.converge(_agents.Agents(client), specs(["a"]), _converge.Manner())
    assert outcome.error.message == "'a' on hv1: the answer of hv1 does not tell of each machine"
