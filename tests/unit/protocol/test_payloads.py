# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The wire: literal XML in, literal XML out."""

from __future__ import annotations

import datetime
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import yaml

from archipel_protocol import declaration, errors, namespaces as ns, payloads


def test_request_has_archipels_form():
    query = payloads.request(ns.HYPERVISOR_CONTROL, "manage", children=[ET.Element("item", {"jid": "u@d"})])
    assert ET.canonicalize(ET.tostring(query, encoding="unicode"), rewrite_prefixes=True) == ET.canonicalize(
        '<query xmlns="archipel:hypervisor:control"><archipel action="manage">'
        '<item xmlns="" jid="u@d"/></archipel></query>',
        rewrite_prefixes=True,
    )


def test_request_is_read_back():
    query = payloads.request(ns.VM_CONTROL, "migrate", {"hypervisorjid": "hv2@d/hv2"}, text="x")
    namespace, action, archipel = payloads.parse_request(query)
    assert (namespace, action, archipel.text) == (ns.VM_CONTROL, "migrate", "x")
    assert archipel.get("hypervisorjid") == "hv2@d/hv2"


def test_archipels_client_may_omit_or_repeat_the_namespace_of_the_inner_element():
    for inner in ('<archipel xmlns="" action="info"/>', '<archipel xmlns="archipel:vm:control" action="info"/>'):
        query = ET.fromstring(f'<query xmlns="archipel:vm:control">{inner}</query>')
        assert payloads.parse_request(query)[1] == "info"


@pytest.mark.parametrize(
    "text",
    [
        "<query xmlns='a:b'/>",
        "<query xmlns='a:b'><archipel/></query>",
        "<other xmlns='a:b'><archipel action='x'/></other>",
    ],
)
def test_other_forms_are_malformed(text):
    with pytest.raises(errors.MalformedRequest, match="archipel action"):
        payloads.parse_request(ET.fromstring(text))


@pytest.mark.parametrize(
    "fault",
    [
        errors.ArchipelError("a", -9010),
        errors.PermissionDenied("b"),
        errors.LibvirtError("c", 42),
    ],
)
def test_errors_survive_the_wire(fault):
    read = payloads.parse_error(ET.fromstring(ET.tostring(payloads.error(fault))))
    assert type(read) is type(fault)
    assert (read.message, read.code) == (fault.message, fault.code)


def test_error_has_archipels_form_and_a_condition_of_xmpps():
    assert ET.canonicalize(
        ET.tostring(payloads.error(errors.PermissionDenied("no")), encoding="unicode"), rewrite_prefixes=True
    ) == ET.canonicalize(
        '<error code="-1" type="cancel"><undefined-condition xmlns="urn:ietf:params:xml:ns:xmpp-stanzas"/>'
        '<archipel-error-permission xmlns="archipel:error:permission"/><text>no</text></error>',
        rewrite_prefixes=True,
    )


def test_xmpps_own_errors_are_not_archipels():
    stanza = f'<error type="cancel"><service-unavailable xmlns="{ns.STANZAS}"/></error>'
    assert payloads.parse_error(ET.fromstring(stanza)) is None


def test_payload_round_trip():
    payload = {"vms": [{"name": "wéb", "force": False}]}
    assert declaration.decode(declaration.encode(payload)) == payload
    assert " " not in declaration.encode(payload)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "empty"),
        (" ", "empty"),
        ("{", "not JSON"),
        ("[" * 100000, "not JSON"),
        ("[]", "object, not list"),
        ("x" * (declaration.MAX_PAYLOAD + 1), "at most"),
    ],
)
def test_payloads_that_are_refused(text, message):
    with pytest.raises(errors.MalformedRequest, match=message):
        declaration.decode(text)


@pytest.mark.parametrize(
    "xml",
    [
        "<query xmlns='archipel:test'/>",
        "<query xmlns='archipel:test'><a b='&quot;&amp;&lt;'>&amp;&lt;&gt;\"'</a> tail <a xmlns='other'/></query>",
        "<query xmlns='archipel:test'>äöü 漢字 &#x1F600;</query>",
        "<query xmlns='archipel:test' xmlns:b='c' b:d='e'/>",
    ],
)
def test_the_size_on_the_wire_is_never_more_than_reckoned(xml):
    element = ET.fromstring(xml)
    # A declaration is written at each change of namespace; slixmpp writes quotes as entities in text, too.
    written = ET.tostring(element, encoding="utf-8")
    quotes = sum(
        5 * (text or "").count(quote) for one in element.iter() for text in (one.text, one.tail) for quote in "\"'"
    )
    assert len(written) + quotes <= payloads.wire_size(element) <= 6 * len(written) + 100


def test_what_is_nested_too_deep_is_refused():
    def nested(depth):
        return ET.fromstring("<a>" * depth + "</a>" * depth)

    payloads.wire_size(nested(payloads.MAX_DEPTH))
    for depth in (payloads.MAX_DEPTH + 1, 100_000):
        with pytest.raises(errors.MalformedRequest, match="nested deeper than 64"):
            payloads.wire_size(nested(depth))


def test_what_no_stanza_carries_is_refused():
    element = ET.Element("a")
    element.text = '"' * (payloads.MAX_STANZA // 6 - 10)
    payloads.check_size(element, "the answer")
    element.text += '"' * 20
    with pytest.raises(errors.ArchipelError, match="the answer is larger than the 4092 KiB of a stanza; ask for less"):
        payloads.check_size(element, "the answer")


def test_as_many_as_fit():
    items = [{"name": "x" * 1000}] * 10
    size = payloads.text_size(declaration.encode(items[0])) + 1
    assert [declaration.fitting(items, room) for room in (3 * size, 3 * size - 1, 1, 20 * size)] == [3, 2, 1, 10]
    assert declaration.fitting([]) == 0
    most = declaration.fitting(items * 100_000)
    query = payloads.request(ns.DECLARATION, "apply", text=declaration.encode({"vms": (items * 100_000)[:most]}))
    payloads.check_size(query, "the request")


def test_the_largest_stanza_is_one_that_the_server_takes():
    role = Path(__file__).resolve().parents[3] / "roles/ejabberd/defaults/main.yml"
    limit = yaml.safe_load(role.read_text())["ejabberd_max_stanza_size"]
    assert limit - 65536 < payloads.MAX_STANZA < limit


def test_a_push():
    date = datetime.datetime(2026, 2, 3, 4, 5, 6, 7, datetime.timezone.utc)
    push = payloads.push("virtualmachine:control", "created", "a@example.org", date, [ET.Element("more")])
    assert ET.tostring(push, "unicode") == (
        '<ns0:push xmlns:ns0="archipel:push:virtualmachine:control" date="2026-02-03T04:05:06.000007Z" change="created"'
        ' jid="a@example.org"><more /></ns0:push>'
    )
    text = ET.tostring(push, "unicode")
    assert payloads.parse_push(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<push/>",
        "<push xmlns='archipel:other'/>",
        "<!DOCTYPE push [<!ENTITY a 'b'>]><push xmlns='archipel:push:disk'>&a;</push>",
        "<query xmlns='archipel:push:disk'/>",
        f"<push xmlns='archipel:push:disk'>{'<a>' * 5000}{'</a>' * 5000}</push>",
    ],
)
def test_what_is_no_push(text):
    with pytest.raises(errors.MalformedRequest):
        payloads.parse_push(text)
