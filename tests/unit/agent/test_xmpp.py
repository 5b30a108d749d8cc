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

from slixmpp import ClientXMPP  # noqa: E402 - only where there is slixmpp
from slixmpp.stanza import Iq  # noqa: E402 - only where there is slixmpp

from archipel_agent import xmpp  # noqa: E402 - it imports slixmpp


@pytest.mark.parametrize("text", ["", "plain", "<a b='c' d=\"e\">&amp;</a>", "Zoë &<", "\U0001f600'"])
def test_what_is_sent_is_escaped(text):
    iq = Iq()
    iq.xml.append(ET.Element("{x}y", {"z": text}))
    iq.xml[0].text = text
    element = ET.fromstring(str(iq))
    assert (element[0].get("z"), element[0].text or "") == (text, text)


def test_an_answer_leaves_no_garbage():
    """Or a look for it would hold the loop up every few thousand requests."""

    class Client:
        def __init__(self):
            self.sent = []

        def make_iq(self, id, ito, itype):
            return ClientXMPP.make_iq(self.stream, id=id, ito=ito, itype=itype)

        def send(self, stanza):
            self.sent.append(str(stanza))

    async def answer():
        client = Client()
        client.stream = ClientXMPP("hv1@a.test", "x")
        client.stream.send = client.send
        session = xmpp.Session(None, "hv1@a.test/hv1", None)
        session._client = client
        session._ready.set_result(None)
        session.reply("b@a.test/x", "0", ET.Element("{x}y"))
        gc.collect()
        for number in range(100):
            session.reply("b@a.test/x", str(number), ET.Element("{x}y"))
        return gc.collect(), client.sent

    left, sent = asyncio.run(answer())
    assert len(sent) == 101 and 'id="99"' in sent[-1] and 'type="result"' in sent[-1]
    assert left < 100


def test_a_connection_has_a_small_buffer():
    loop = asyncio.new_event_loop()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    waiter = loop.create_future()
    protocol = sslproto.SSLProtocol(loop, asyncio.Protocol(), context, waiter, server_hostname="a.test")
    assert len(protocol.get_buffer(-1)) == xmpp.TLS_BUFFER
    loop.close()
