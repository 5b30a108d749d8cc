# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is put in the place of a part of slixmpp or asyncio is used there."""

from __future__ import annotations

import asyncio
import gc
import ssl
from asyncio import sslproto
from xml.etree import ElementTree as ET

import pytest

pytest.importorskip("slixmpp")

from archipel_agent import xmpp, xmpp_client  # noqa: E402 - it imports slixmpp


class Transport:
    """Of an encrypted connection that takes everything."""

    def __init__(self):
        self.sent = []

    def get_extra_info(self, name):
        return object() if name == "ssl_object" else None

    def is_closing(self):
        return False

    def write(self, data):
        self.sent.append(data.decode())


class Owner:
    """Keeps what it is asked."""

    def __init__(self):
        self.asked = []

    def on_iq(self, session, kind, sender, iq_id, payload):
        self.asked.append((kind, sender, iq_id, payload.tag))
        if payload.tag == "{x}fault":
            raise ValueError("a fault of ours")


def _logged_in(owner=None):
    """A session on a slixmpp of its own, logged in as far as both know, and its transport."""
    server = xmpp_client.Server("a.test", "127.0.0.1", 5222, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    session = xmpp.Session(server, "hv1@a.test/hv1", owner)
    client = session._client = xmpp_client.Client(server, session.jid, "x", session._take)
    client.transport = transport = Transport()
    client.init_parser()
    client.data_received(b"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>")
    session._ready.set_result(None)
    return session, client, transport


def test_an_answer_leaves_no_garbage():
    """Or a look for it would hold the loop up every few thousand requests."""

    async def answer():
        session, dummy, transport = _logged_in()
        session.reply("b@a.test/x", "0", ET.Element("{x}y"))
        gc.collect()
        for number in range(100):
            session.reply("b@a.test/x", str(number), ET.Element("{x}y"))
        return gc.collect(), transport.sent

    left, sent = asyncio.run(answer())
    assert len(sent) == 101 and 'id="99"' in sent[-1] and 'type="result"' in sent[-1]
    assert left < 100


def test_a_request_comes_past_slixmpp():
    """Whatever version it is; and a fault of ours does not end the connection."""

    async def ask():
        owner = Owner()
        dummy, client, transport = _logged_in(owner)
        for number, name in enumerate(("fault", "query")):
            iq = f"<iq type='set' from='b@a.test/x' id='{number}'><{name} xmlns='x'/></iq>"
            client.data_received(iq.encode())
        client.data_received(b"<iq type='set' from='hv1@a.test' id='2'><query xmlns='jabber:iq:roster'/></iq>")
        return owner.asked, transport.sent

    asked, sent = asyncio.run(ask())
    assert asked == [("set", "b@a.test/x", "0", "{x}fault"), ("set", "b@a.test/x", "1", "{x}query")]
    assert sent == []


def test_an_answer_comes_past_slixmpp_from_who_was_asked():
    async def ask():
        session, client, transport = _logged_in()
        answers = [session.ask("b@a.test/x", ET.Element("{x}query"), "get") for dummy in range(2)]
        ids = [ET.fromstring(text).get("id") for text in transport.sent]
        for sender, number in (("c@a.test/x", ids[0]), ("b@a.test/x", ids[1]), ("b@a.test/x", ids[0])):
            answer = f"<iq type='result' from='{sender}' id='{number}'><{sender[0]} xmlns='x'/></iq>"
            client.data_received(answer.encode())
            if sender[0] == "c":
                assert not answers[0].done()
        return [(await answer).tag for answer in answers]

    assert asyncio.run(ask()) == ["{x}b", "{x}b"]


def test_what_is_said_is_one_stanza_each():
    async def say():
        session, dummy, transport = _logged_in()
        session.presence("away", "down & out", nick="<vm>")
        session.presence(to="b@a.test", kind="subscribed")
        session.message("b@a.test/x", "a\0b", thread="t")
        return [ET.fromstring(f"<s xmlns='jabber:client'>{text}</s>")[0] for text in transport.sent]

    shown, subscribed, message = asyncio.run(say())
    assert [(one.tag, one.text) for one in shown] == [
        ("{jabber:client}show", "away"),
        ("{jabber:client}status", "down & out"),
        ("{http://jabber.org/protocol/nick}nick", "<vm>"),
    ]
    assert (subscribed.attrib, list(subscribed)) == ({"to": "b@a.test", "type": "subscribed"}, [])
    assert (message.get("to"), message.get("type")) == ("b@a.test/x", "chat")
    assert [(one.tag, one.text) for one in message] == [
        ("{jabber:client}body", "a\ufffdb"),
        ("{jabber:client}thread", "t"),
    ]


def test_a_connection_has_a_small_buffer():
    loop = asyncio.new_event_loop()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    waiter = loop.create_future()
    protocol = sslproto.SSLProtocol(loop, asyncio.Protocol(), context, waiter, server_hostname="a.test")
    assert len(protocol.get_buffer(-1)) == xmpp_client.TLS_BUFFER
    loop.close()
