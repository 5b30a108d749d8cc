# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is put in the place of a part of slixmpp or asyncio is used there."""

from __future__ import annotations

import asyncio
import ssl
from asyncio import sslproto
from xml.etree import ElementTree as ET

import pytest

pytest.importorskip("slixmpp")

from slixmpp.stanza import Iq  # noqa: E402 - only where there is slixmpp

from archipel_agent import xmpp  # noqa: E402 - it imports slixmpp


@pytest.mark.parametrize("text", ["", "plain", "<a b='c' d=\"e\">&amp;</a>", "Zoë &<", "\U0001f600'"])
def test_what_is_sent_is_escaped(text):
    iq = Iq()
    iq.xml.append(ET.Element("{x}y", {"z": text}))
    iq.xml[0].text = text
    element = ET.fromstring(str(iq))
    assert (element[0].get("z"), element[0].text or "") == (text, text)


def test_a_connection_has_a_small_buffer():
    loop = asyncio.new_event_loop()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    waiter = loop.create_future()
    protocol = sslproto.SSLProtocol(loop, asyncio.Protocol(), context, waiter, server_hostname="a.test")
    assert len(protocol.get_buffer(-1)) == xmpp.TLS_BUFFER
    loop.close()
