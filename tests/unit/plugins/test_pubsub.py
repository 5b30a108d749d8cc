# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Publish-subscribe: what a declaration means, the steps to it, and the requests, XML in and XML out."""

from __future__ import annotations

import types
from xml.etree import ElementTree as ET

import pytest
from ansible_collections.archipel.platform.plugins.module_utils import _pubsub
from ansible_collections.archipel.platform.plugins.module_utils._errors import InvalidSpec, StanzaError
from ansible_collections.archipel.platform.plugins.module_utils._pubsub import Node, Service, values
from ansible_collections.archipel.platform.plugins.modules import archipel_pubsub as module
from ansible_collections.archipel.platform.plugins.modules.archipel_pubsub import Desired, Plan

ME = "automation@example.org"
HV1, HV2 = "hv1@example.org", "hv2@example.org"
OPEN = {"access_model": ("open",)}


def options(**given):
    return {"kind": None, "node": None, "config": {}, "publishers": None, "state": "present", **given}


@pytest.mark.parametrize(
    ("existing", "desired", "steps"),
    [
        (None, Desired("/n", False, {}, None), Plan()),
        (Node(OPEN, {ME: "owner"}), Desired("/n", False, OPEN, [HV1]), Plan(delete=True)),
        (None, Desired("/n", True, OPEN, None), Plan(create=True, config=OPEN)),
        (None, Desired("/n", True, OPEN, [HV1]), Plan(create=True, config=OPEN, affiliations={HV1: "publisher"})),
        # Who makes a node owns it, and stays so.
        (None, Desired("/n", True, {}, [ME]), Plan(create=True)),
        (Node(OPEN, {ME: "owner"}), Desired("/n", True, OPEN, [ME]), Plan()),
        (Node(OPEN, {HV1: "publisher"}), Desired("/n", True, OPEN, [HV1]), Plan()),
        (Node(OPEN, {HV1: "publisher"}), Desired("/n", True, OPEN, None), Plan()),
        (Node(OPEN, {HV1: "publisher"}), Desired("/n", True, OPEN, []), Plan(affiliations={HV1: "none"})),
        (
            Node(OPEN, {HV1: "publisher", HV2: "outcast"}),
            Desired("/n", True, OPEN, [HV2]),
            Plan(affiliations={HV1: "none", HV2: "publisher"}),
        ),
        # Drift is mended, what is not declared stays.
        (
            Node({"access_model": ("authorize",), "title": ("x",)}, {}),
            Desired("/n", True, OPEN, None),
            Plan(config=OPEN),
        ),
    ],
)
def test_plan(existing, desired, steps):
    assert module.plan(existing, desired, ME) == steps
    assert steps.changed is (steps != Plan())


def test_every_kind_lets_only_publishers_publish():
    for kind in module.KINDS:
        for desired in module.declared(options(kind=kind)):
            assert desired.name.startswith("/archipel/")
            assert desired.config["publish_model"] == ("publishers",)
            assert desired.config["access_model"] in (("open",), ("whitelist",))


def test_config_is_laid_over_the_kind():
    (desired,) = module.declared(options(kind="tags", config={"access_model": "whitelist", "max_items": 5}))
    assert desired.config["access_model"] == ("whitelist",)
    assert desired.config["max_items"] == ("5",)
    assert desired.config["persist_items"] == ("true",)


def test_publishers_are_bare_jids():
    (desired,) = module.declared(options(node="/n", publishers=["HV1@example.org/hv1", HV1, HV2]))
    assert desired.publishers == [HV1, HV2]
    with pytest.raises(InvalidSpec, match="'hv1' is no JID"):
        module.declared(options(node="/n", publishers=["hv1"]))


@pytest.mark.parametrize(
    ("value", "content"),
    [(True, ("true",)), (False, ("false",)), (5, ("5",)), ("max", ("max",)), (["b", "a"], ("a", "b")), (None, ())],
)
def test_values(value, content):
    assert values(value) == content


class Client:
    """Takes requests down and gives prepared answers; an error among them is the answer to its request."""

    options = types.SimpleNamespace(jid=ME)

    def __init__(self, *answers):
        self.answers = list(answers)
        self.sent = []

    def send(self, request):
        return self.gather([request])[0]

    def gather(self, requests):
        for request in requests:
            assert request.to == "pubsub.example.org"
            self.sent.append((request.kind, canonical(request.payload)))
        return [self.answers.pop(0) for dummy in requests]


def canonical(element):
    return ET.canonicalize(ET.tostring(element, encoding="unicode"), rewrite_prefixes=True)


def parsed(text):
    return ET.fromstring(text)


FORM = """
<pubsub xmlns="http://jabber.org/protocol/pubsub#owner"><configure node="/n"><x xmlns="jabber:x:data" type="form">
<field var="FORM_TYPE" type="hidden"><value>http://jabber.org/protocol/pubsub#node_config</value></field>
<field var="pubsub#access_model" type="list-single"><value>open</value><option><value>authorize</value></option></field>
<field var="pubsub#persist_items" type="boolean"><value>1</value></field>
<field var="pubsub#max_items" type="text-single"><value>1</value></field>
<field var="pubsub#roster_groups_allowed" type="list-multi"/>
</x></configure></pubsub>
"""
AFFILIATIONS = """
<pubsub xmlns="http://jabber.org/protocol/pubsub#owner"><affiliations node="/n">
<affiliation affiliation="owner" jid="automation@example.org"/>
<affiliation affiliation="publisher" jid="hv1@example.org"/>
</affiliations></pubsub>
"""


def test_a_node_is_read():
    client = Client(parsed(FORM), parsed(AFFILIATIONS))
    node = Service(client, "pubsub.example.org").read("/n")
    assert node == Node(
        {"access_model": ("open",), "persist_items": ("true",), "max_items": ("1",), "roster_groups_allowed": ()},
        {ME: "owner", HV1: "publisher"},
    )
    assert node.publishers() == [HV1]
    assert [kind for kind, dummy in client.sent] == ["get", "get"]


def test_a_node_that_is_not_there_is_none():
    missing = StanzaError("configure: item-not-found", "item-not-found")
    assert Service(Client(missing, missing), "pubsub.example.org").read("/n") is None


def test_a_node_of_another_account_is_told_so():
    refused = StanzaError("configure: forbidden", "forbidden")
    with pytest.raises(StanzaError, match="automation@example.org is no owner of the node /n"):
        Service(Client(refused, refused), "pubsub.example.org").read("/n")


def test_a_node_is_made_with_its_configuration():
    client = Client(None)
    Service(client, "pubsub.example.org").create("/n", {"persist_items": ("false",), "access_model": ("open",)})
    expected = f"""<pubsub xmlns="http://jabber.org/protocol/pubsub"><create node="/n"/><configure>
        <x xmlns="jabber:x:data" type="submit">
        <field var="FORM_TYPE"><value>{_pubsub.FORM_TYPE}</value></field>
        <field var="pubsub#access_model"><value>open</value></field>
        <field var="pubsub#persist_items"><value>false</value></field>
        </x></configure></pubsub>"""
    assert client.sent == [("set", ET.canonicalize(expected, strip_text=True, rewrite_prefixes=True))]


def test_affiliations_are_set():
    client = Client(None)
    Service(client, "pubsub.example.org").affiliate("/n", {HV1: "publisher", HV2: "none"})
    expected = """<pubsub xmlns="http://jabber.org/protocol/pubsub#owner"><affiliations node="/n">
        <affiliation jid="hv1@example.org" affiliation="publisher"/>
        <affiliation jid="hv2@example.org" affiliation="none"/>
        </affiliations></pubsub>"""
    assert client.sent == [("set", ET.canonicalize(expected, strip_text=True, rewrite_prefixes=True))]


@pytest.mark.parametrize(("items", "holds"), [("", False), ('<item id="x"/>', True)])
def test_whether_a_node_holds_items(items, holds):
    answer = f'<pubsub xmlns="http://jabber.org/protocol/pubsub"><items node="/n">{items}</items></pubsub>'
    client = Client(parsed(answer))
    assert Service(client, "pubsub.example.org").holds_items("/n") is holds
