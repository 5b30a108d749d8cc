# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Publish-subscribe: what a declaration means, the steps to it, and the requests, XML in and XML out."""

from __future__ import annotations

import types
from xml.etree import ElementTree as ET

import pytest
from ansible_collections.archipel.platform.plugins.module_utils import _pubsub, _pubsub_plan as planning
from ansible_collections.archipel.platform.plugins.module_utils._errors import InvalidSpec, StanzaError
from ansible_collections.archipel.platform.plugins.module_utils._pubsub import Node, Service, values
from ansible_collections.archipel.platform.plugins.module_utils._pubsub_plan import Desired, Plan, Present
from ansible_collections.archipel.platform.plugins.module_utils.archipel_protocol import namespaces as ns
from ansible_collections.archipel.platform.plugins.module_utils.archipel_protocol.errors import ArchipelError

ME = "automation@example.org"
HV1, HV2 = "hv1@example.org", "hv2@example.org"
OPEN = {"access_model": ("open",)}


def options(**given):
    nothing = dict.fromkeys(("kind", "node", "publishers", "affiliations", "items"))
    return {**nothing, "config": {}, "purge_affiliations": False, "purge_items": False, "state": "present", **given}


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
    assert planning.plan(Present(existing, {}) if existing else None, desired, ME) == steps
    assert steps.changed is (steps != Plan())


@pytest.mark.parametrize(
    ("affiliations", "purge", "publishers", "steps"),
    [
        ({}, False, None, {}),
        ({}, True, None, {HV1: "none", HV2: "none"}),
        ({HV1: "publisher"}, False, None, {}),
        ({HV1: "member"}, False, None, {HV1: "member"}),
        ({HV1: "member"}, True, None, {HV1: "member", HV2: "none"}),
        ({HV1: "none"}, False, None, {HV1: "none"}),
        ({"new@example.org": "none"}, False, None, {}),
        ({HV2: "outcast"}, False, [HV1], {}),
        ({HV2: "owner"}, False, [HV1], {HV2: "owner"}),
        ({HV2: "member"}, True, [], {HV1: "none", HV2: "member"}),
        ({}, True, [HV1], {HV2: "none"}),
    ],
)
def test_affiliations_are_planned(affiliations, purge, publishers, steps):
    existing = Present(Node({}, {ME: "owner", HV1: "publisher", HV2: "outcast"}), {})
    desired = Desired("/n", True, {}, publishers, affiliations, purge)
    assert planning.plan(existing, desired, ME).affiliations == steps


def test_of_a_node_that_is_made_everything_is_done():
    desired = Desired("/n", True, OPEN, None, {HV1: "member", HV2: "none"}, items={"a": "<a />", "b": None})
    steps = Plan(create=True, config=OPEN, affiliations={HV1: "member"}, publish={"a": "<a />"})
    assert planning.plan(None, desired, ME) == steps
    after = Present(Node(OPEN, {ME: "owner", HV1: "member"}), {"a": "<a />"})
    assert planning.outcome(None, desired, steps, ME) == after
    assert planning.plan(after, desired, ME) == Plan()


@pytest.mark.parametrize(
    ("items", "purge", "publish", "retract"),
    [
        ({"a": "<a />"}, False, {}, ()),
        ({"a": "<b />"}, False, {"a": "<b />"}, ()),
        ({"a": None}, False, {}, ("a",)),
        ({"c": None}, False, {}, ()),
        ({"c": "<c />"}, True, {"c": "<c />"}, ("a", "b")),
        ({}, True, {}, ("a", "b")),
    ],
)
def test_items_are_planned(items, purge, publish, retract):
    existing = Present(Node({}, {ME: "owner"}), {"a": "<a />", "b": "<b />"})
    desired = Desired("/n", True, {}, items=items, purge_items=purge)
    steps = planning.plan(existing, desired, ME)
    assert (steps.publish, steps.retract) == (publish, retract)
    after = planning.outcome(existing, desired, steps, ME)
    assert planning.plan(after, desired, ME) == Plan()


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"purge_items": True}, "purge_items: needs items"),
        ({"purge_affiliations": True}, "purge_affiliations: needs affiliations or publishers"),
        ({"affiliations": [(ME, "member")]}, r"affiliations\[0\].jid: automation@example.org does this task"),
        ({"affiliations": [("hv1", "member")]}, "'hv1' is no JID"),
        ({"affiliations": [(HV1, "member"), (HV1, "owner")]}, r"affiliations\[1\].jid: hv1@example.org is there twice"),
        ({"affiliations": [(HV1, "member")], "publishers": [HV1]}, "is one of publishers and cannot be 'member'"),
        ({"items": [("", "<a/>")]}, r"items\[0\].id: it is empty"),
        ({"items": [("a", "<a/>"), ("a", "<b/>")]}, r"items\[1\].id: 'a' is there twice"),
        ({"items": [("a", None)]}, r"items\[0\].payload: an item that is present has one"),
        ({"items": [("a", "<a>")]}, r"items\[0\].payload: it is no XML: no element found"),
        ({"items": [("a", "<a/><b/>")]}, "it is no XML: junk after document element"),
        ({"items": [("a", "</item><item id='x'/>")]}, "it is no XML"),
        ({"items": [("a", "<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>")]}, "it has a document type declaration"),
        ({"items": [("a", "<a xmlns:x='urn:x' x:y='z'/>")]}, "attributes have no namespace here, as {urn:x}y has"),
        ({"items": [("a", "<a>%s</a>" % ("\u00e4" * 30000))]}, "it has 60007 bytes, more than the 60000"),
        ({"items": [("a", "<abc/>")], "config": {"max_payload_size": 5}}, "it has 6 bytes, more than the 5"),
    ],
)
def test_what_cannot_be_meant_is_refused(given, problem):
    if "affiliations" in given:
        given["affiliations"] = [{"jid": jid, "affiliation": one} for jid, one in given["affiliations"]]
    if "items" in given:
        given["items"] = [{"id": item, "payload": text, "state": "present"} for item, text in given["items"]]
    with pytest.raises(InvalidSpec, match=problem):
        planning.declared(options(node="/n", **given), ME)


@pytest.mark.parametrize(
    ("existing", "desired", "problems"),
    [
        ({"access_model": ("open",)}, {}, []),
        ({}, {"acces_model": ("open",)}, ["config: the service knows no field 'acces_model'"]),
        ({"persist_items": ("false",)}, {}, ["items: the node /n keeps none (persist_items is false)"]),
        ({"persist_items": ("false",)}, {"persist_items": ("true",)}, []),
        ({"max_items": ("1",)}, {}, ["items: 2 are more than the 1 that the node /n keeps"]),
        ({"max_items": ("1",)}, {"max_items": ("max",)}, []),
    ],
)
def test_what_the_node_cannot_hold_is_refused(existing, desired, problems):
    items = {"a": "<a />", "b": "<b />", "c": None}
    assert planning.faults(Present(Node(existing, {}), {}), Desired("/n", True, desired, items=items)) == problems


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("<a/>", f"<a xmlns='{ns.PUBSUB}'/>"),
        ("<a b='1' c='2'/>", "<a c='2' b='1'></a>"),
        ("<a>\n  <b/>\n</a>\n", "<a><b/></a>"),
        ("<a xmlns='urn:x'><b/></a>", "<x:a xmlns:x='urn:x'><x:b/></x:a>"),
        ("<?xml version='1.0'?><a><!-- c --></a>", "<a/>"),
    ],
)
def test_payloads_that_are_one(one, other):
    assert _pubsub.text(_pubsub.payload(one)) == _pubsub.text(_pubsub.payload(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("<a/>", "<a xmlns='urn:x'/>"),
        ("<a> b</a>", "<a>b</a>"),
        ("<a><b/>c</a>", "<a><b/></a>"),
        ("<a xmlns='urn:x'><b/></a>", "<a xmlns='urn:x'><b xmlns=''/></a>"),
    ],
)
def test_payloads_that_differ(one, other):
    assert _pubsub.text(_pubsub.payload(one)) != _pubsub.text(_pubsub.payload(other))


def test_every_kind_lets_only_publishers_publish():
    for kind in planning.KINDS:
        for desired in planning.declared(options(kind=kind), ME):
            assert desired.name.startswith("/archipel/")
            assert desired.config["publish_model"] == ("publishers",)
            assert desired.config["access_model"] in (("open",), ("whitelist",))


def test_config_is_laid_over_the_kind():
    (desired,) = planning.declared(options(kind="tags", config={"access_model": "whitelist", "max_items": 5}), ME)
    assert desired.config["access_model"] == ("whitelist",)
    assert desired.config["max_items"] == ("5",)
    assert desired.config["persist_items"] == ("true",)


def test_publishers_are_bare_jids():
    (desired,) = planning.declared(options(node="/n", publishers=["HV1@example.org/hv1", HV1, HV2]), ME)
    assert desired.publishers == [HV1, HV2]
    with pytest.raises(InvalidSpec, match="'hv1' is no JID"):
        planning.declared(options(node="/n", publishers=["hv1"]), ME)


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
        (answer,) = self.gather([request])
        if isinstance(answer, Exception):
            raise answer
        return answer

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
ALONE = """
<pubsub xmlns="http://jabber.org/protocol/pubsub#owner"><affiliations node="/n">
<affiliation affiliation="owner" jid="automation@example.org"/>
</affiliations></pubsub>
"""
ITEMS = f"""
<pubsub xmlns="{ns.PUBSUB}"><items node="/n"><item id="a" publisher="{HV1}"><tag jid="x" tags="b"/></item>
<item id="b"><c xmlns="urn:c"><d/></c></item></items></pubsub>
"""
NO_ITEMS = f'<pubsub xmlns="{ns.PUBSUB}"><items node="/n"/></pubsub>'


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
    client = Client(None, parsed(FORM), parsed(ALONE), parsed(NO_ITEMS))
    Service(client, "pubsub.example.org").create("/n", {"persist_items": ("false",), "access_model": ("open",)})
    expected = f"""<pubsub xmlns="http://jabber.org/protocol/pubsub"><create node="/n"/><configure>
        <x xmlns="jabber:x:data" type="submit">
        <field var="FORM_TYPE"><value>{_pubsub.FORM_TYPE}</value></field>
        <field var="pubsub#access_model"><value>open</value></field>
        <field var="pubsub#persist_items"><value>false</value></field>
        </x></configure></pubsub>"""
    assert client.sent[0] == ("set", ET.canonicalize(expected, strip_text=True, rewrite_prefixes=True))
    assert [kind for kind, dummy in client.sent] == ["set", "get", "get", "get"]


@pytest.mark.parametrize("remains", [(AFFILIATIONS, NO_ITEMS), (ALONE, ITEMS)])
def test_a_new_node_with_remains_of_another_is_made_again(remains):
    first = [None, parsed(FORM), *map(parsed, remains)]
    second = [None, parsed(FORM), parsed(ALONE), parsed(NO_ITEMS)]
    if remains[0] is AFFILIATIONS:
        # There is no need to ask for items, too.
        first.pop()
    client = Client(*first, None, *second)
    Service(client, "pubsub.example.org").create("/n", {})
    assert not client.answers
    assert sum(":delete " in payload for dummy, payload in client.sent) == 1


def test_a_new_node_that_never_is_one_is_an_error():
    client = Client(*[None, parsed(FORM), parsed(AFFILIATIONS), None] * 3)
    with pytest.raises(ArchipelError, match="gives the new node /n affiliations of another one"):
        Service(client, "pubsub.example.org").create("/n", {})


def test_a_new_node_with_items_that_nobody_can_remove_is_one():
    remains = [None, parsed(FORM), parsed(ALONE), parsed(ITEMS), None]
    client = Client(*remains, *remains, None, parsed(FORM), parsed(ALONE))
    Service(client, "pubsub.example.org").create("/n", {})
    assert not client.answers


def test_affiliations_are_set():
    client = Client(None)
    Service(client, "pubsub.example.org").affiliate("/n", {HV1: "publisher", HV2: "none"})
    expected = """<pubsub xmlns="http://jabber.org/protocol/pubsub#owner"><affiliations node="/n">
        <affiliation jid="hv1@example.org" affiliation="publisher"/>
        <affiliation jid="hv2@example.org" affiliation="none"/>
        </affiliations></pubsub>"""
    assert client.sent == [("set", ET.canonicalize(expected, strip_text=True, rewrite_prefixes=True))]


def test_items_are_read():
    client = Client(parsed(ITEMS))
    found = Service(client, "pubsub.example.org").items("/n", ["b", "a"])
    assert found == {"a": '<tag jid="x" tags="b" />', "b": '<c xmlns="urn:c"><d /></c>'}
    asked = f'<pubsub xmlns="{ns.PUBSUB}"><items node="/n"><item id="a"/><item id="b"/></items></pubsub>'
    assert client.sent == [("get", ET.canonicalize(asked, rewrite_prefixes=True))]


def test_an_item_that_is_not_there_is_none():
    missing = StanzaError("items: item-not-found", "item-not-found")
    assert Service(Client(missing), "pubsub.example.org").items("/n", ["a"]) == {}


def test_items_are_published_and_retracted():
    client = Client(None, None, None)
    service = Service(client, "pubsub.example.org")
    service.publish("/n", {"a": '<tag jid="x" />', "b": '<c xmlns="urn:c" />'})
    service.retract("/n", ["c"])
    expected = [
        '<publish node="/n"><item id="a"><tag jid="x"/></item></publish>',
        '<publish node="/n"><item id="b"><c xmlns="urn:c"/></item></publish>',
        '<retract node="/n"><item id="c"/></retract>',
    ]
    assert client.sent == [
        ("set", ET.canonicalize(f'<pubsub xmlns="{ns.PUBSUB}">{content}</pubsub>', rewrite_prefixes=True))
        for content in expected
    ]


def test_the_first_refusal_of_an_item_is_told():
    refused = StanzaError("publish: not-acceptable (payload-too-big)", "not-acceptable")
    with pytest.raises(StanzaError, match="payload-too-big"):
        Service(Client(None, refused), "pubsub.example.org").publish("/n", {"a": "<a />", "b": "<b />"})


@pytest.mark.parametrize(("items", "holds"), [("", False), ('<item id="x"/>', True)])
def test_whether_a_node_holds_items(items, holds):
    answer = f'<pubsub xmlns="http://jabber.org/protocol/pubsub"><items node="/n">{items}</items></pubsub>'
    client = Client(parsed(answer))
    assert Service(client, "pubsub.example.org").holds_items("/n") is holds
