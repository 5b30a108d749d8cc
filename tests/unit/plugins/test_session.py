# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a module's session takes for the answer to which of its requests; the server's side is written out here."""

from __future__ import annotations

import asyncio
import ssl
from xml.etree import ElementTree as ET

import pytest
from ansible_collections.archipel.platform.plugins.module_utils import _errors, _xmpp

OWN = "automation@example.com"
PEER = "hv1@example.com/hv1"


class _Encrypted:
    """A transport of TLS that keeps what is written."""

    def __init__(self):
        self.written = []

    def get_extra_info(self, name):
        return object()

    def write(self, data):
        self.written.append(ET.fromstring(data.decode().replace("<iq", "<iq xmlns='jabber:client'", 1)))


class _World:
    """A session that has logged in."""

    def __init__(self):
        self.session = _xmpp.Session(OWN, "secret", ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), None, 5222)
        self.stream = self.session._stream
        self.transport = self.stream.transport = _Encrypted()
        self.stream.boundjid.resource = "here"

    def begin(self, to=PEER, timeout=5):
        return asyncio.ensure_future(self.session.ask(to, ET.Element("{archipel:test}query"), "set", timeout))

    def answer(self, number, sender, kind="result"):
        request = self.transport.written[number]
        iq = ET.Element("{jabber:client}iq", {"type": kind, "id": request.get("id")})
        if sender is not None:
            iq.set("from", sender)
        ET.SubElement(iq, "{archipel:test}answer", {"number": str(number)})
        self.stream._spawn_event(iq)


def _run(work):
    async def within():
        return await work(_World())

    return asyncio.run(within())


async def _settled():
    for dummy in range(5):
        await asyncio.sleep(0)


def test_answers_find_their_requests_in_any_order():
    async def work(world):
        begun = [world.begin() for dummy in range(3)]
        await _settled()
        for number in (2, 0, 1):
            world.answer(number, PEER)
        return [one.get("number") for one in await asyncio.gather(*begun)], world.stream.our_requests

    assert _run(work) == (["0", "1", "2"], {})


@pytest.mark.parametrize("to", (PEER, None))
def test_an_answer_of_somebody_else_counts_for_nothing(to):
    async def work(world):
        begun = world.begin(to)
        await _settled()
        for sender in ("mallory@example.com/x", "hv1@example.com/other", "hv1@example.com.evil.net", ""):
            if sender or to is not None:
                world.answer(0, sender)
        await _settled()
        assert not begun.done()
        world.answer(0, OWN if to is None else to)
        return await begun

    assert _run(work).get("number") == "0"


@pytest.mark.parametrize("sender", (None, OWN, "example.com"))
@pytest.mark.parametrize("to", (None, OWN, "example.com"))
def test_the_server_answers_for_the_account_by_each_of_its_names(to, sender):
    async def work(world):
        begun = world.begin(to)
        await _settled()
        world.answer(0, sender)
        return await begun

    assert _run(work).get("number") == "0"


def test_names_are_compared_as_the_server_writes_them():
    async def work(world):
        begun = world.begin("HV1@Example.com/hv1")
        await _settled()
        world.answer(0, PEER)
        return await begun

    assert _run(work).get("number") == "0"


def test_the_end_of_the_session_ends_what_is_asked_and_what_is_asked_later():
    async def work(world):
        begun = world.begin()
        await _settled()
        world.session._on_disconnected("gone")
        return [
            str(one) for one in await asyncio.gather(begun, world.begin(), return_exceptions=True)
        ], world.stream.our_requests

    told, left = _run(work)
    assert len(told) == 2 and all("no answer" in one and "closed the connection (gone)" in one for one in told)
    assert left == {}


def test_silence_is_told_after_its_time():
    async def work(world):
        with pytest.raises(_errors.NoAnswer, match=r"'query' to hv1@example.com/hv1: no answer within 0.01 s"):
            await world.begin(timeout=0.01)
        return world.stream.our_requests

    assert _run(work) == {}
