# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is written as a stanza reads as the element that it was, and within the size that was reckoned."""

from __future__ import annotations

import string
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, strategies as st

from archipel_protocol import payloads, stanzas

_TEXTS = st.text(alphabet=st.sampled_from("ab &<>'\"]]>\n\t;é\u6f22\U0001f600"), max_size=12)
# Attributes are normalised as they are read (XML 1.0, 3.3.3).
_VALUES = _TEXTS.map(lambda text: text.replace("\n", " ").replace("\t", " "))
_NAMES = st.sampled_from(string.ascii_lowercase)
_NAMESPACES = st.sampled_from(["jabber:client", "archipel:test", "urn:a&b", 'quo"te><'])
_TAGS = st.builds("{{{}}}{}".format, _NAMESPACES, _NAMES)


def _element(tag, attributes, text, tail, children):
    element = ET.Element(tag, attributes)
    element.text, element.tail = text, tail
    element.extend(children)
    return element


def _elements(children):
    return st.builds(_element, _TAGS, st.dictionaries(_TAGS | _NAMES, _VALUES, max_size=3), _TEXTS, _TEXTS, children)


def _read(text):
    """The stanza inside a client's stream."""
    return ET.fromstring(f"<stream xmlns='jabber:client'>{text}</stream>")[0]


def _plain(element):
    return element.tag, element.attrib, element.text or "", [(_plain(child), child.tail or "") for child in element]


@given(st.recursive(_elements(st.just([])), lambda inner: _elements(st.lists(inner, max_size=3)), max_leaves=8))
def test_what_is_written_reads_as_it_was(element):
    text = stanzas.written(element)
    assert _plain(_read(text)) == _plain(element)
    assert len(text.encode()) <= payloads.wire_size(element) + len(element.tail or "")


@pytest.mark.parametrize("bad", ["\0", "\x1b", "\ud800", "\ufffe"])
def test_what_xml_cannot_hold_is_replaced(bad):
    element = ET.Element("{archipel:test}query", {"name": f"a{bad}b"})
    element.text = f"c{bad}d"
    found = _read(stanzas.written(element))
    assert (found.get("name"), found.text) == ("a\ufffdb", "c\ufffdd")


def test_a_namespace_is_declared_where_it_changes_only():
    iq = ET.Element("{jabber:client}iq", {"type": "result"})
    query = ET.SubElement(iq, "{archipel:test}query")
    ET.SubElement(query, "{archipel:test}info", {"{http://www.w3.org/XML/1998/namespace}lang": "de"})
    ET.SubElement(iq, "{jabber:client}error")
    assert stanzas.written(iq) == (
        '<iq type="result"><query xmlns="archipel:test"><info xml:lang="de"/></query><error/></iq>'
    )


def test_what_has_no_namespace_is_in_that_around_it():
    iq = ET.Element("{jabber:client}iq")
    error = ET.SubElement(iq, "error")
    ET.SubElement(error, "{urn:ietf:params:xml:ns:xmpp-stanzas}undefined-condition")
    ET.SubElement(error, "text").text = "why"
    found = _read(stanzas.written(iq))[0]
    assert [found.tag, *(child.tag for child in found)] == [
        "{jabber:client}error",
        "{urn:ietf:params:xml:ns:xmpp-stanzas}undefined-condition",
        "{jabber:client}text",
    ]
