# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who is denied again and again does not fill the log."""

from __future__ import annotations

import asyncio
import logging
from xml.etree import ElementTree as ET

import pytest

from archipel_agent import denials, dispatch
from archipel_agent.permissions import Permissions
from archipel_protocol import errors


@pytest.fixture
def noted(caplog):
    """The lines of one period in which each of ``senders`` is denied something; its end with them."""
    caplog.set_level(logging.INFO, logger="archipel_agent.denials")

    def noted(*senders: str) -> list[str]:
        async def deny() -> None:
            one = denials.Denials()
            for sender in senders:
                one.note(sender, f"no, {sender}")
            one.close()
            one.note("after@example.org/x", "no, later")

        caplog.clear()
        asyncio.run(deny())
        *lines, last = caplog.messages
        assert last == "no, later"
        return lines

    return noted


def test_a_few_are_written(noted):
    assert noted("a@example.org/x", "b@example.org/x") == ["no, a@example.org/x", "no, b@example.org/x"]


def test_one_line_says_how_many_of_a_sender_are_left_out_whatever_his_resource(noted):
    lines = noted(*(f"a@example.org/{n}" for n in range(1000)), "b@example.org/x")
    assert lines[: denials.LINES] == [f"no, a@example.org/{n}" for n in range(denials.LINES)]
    assert lines[denials.LINES :] == ["no, b@example.org/x", "995 more denials of a@example.org in 60 s are not shown"]


def test_ever_new_names_do_not_fill_it_either(noted):
    lines = noted(*(f"stranger{n}@elsewhere.net/x" for n in range(10000)))
    assert len(lines) < denials.LINES_OF_ALL + denials.SENDERS + 2
    assert lines[-1] == "9900 more denials of others in 60 s are not shown"


def test_the_period_ends_by_itself(caplog, monkeypatch):
    caplog.set_level(logging.INFO, logger="archipel_agent.denials")
    monkeypatch.setattr(denials, "PERIOD", 0.0)

    async def deny() -> None:
        one, ended = denials.Denials(), asyncio.Event()
        monkeypatch.setattr(one, "close", lambda: (denials.Denials.close(one), ended.set()))
        for dummy in range(denials.LINES + 1):
            one.note("a@example.org/x", "no")
        await ended.wait()

    asyncio.run(deny())
    assert caplog.messages[-1] == "1 more denials of a@example.org in 0 s are not shown"


def test_dispatch_writes_its_denials_so(caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(dispatch, "_HANDLERS", {})
    monkeypatch.setattr(dispatch, "_DENIED", denials.Denials())
    dispatch.handler("archipel:test", "act", "act", on="vm")(lambda entity, request: None)

    class Machine:
        kind = "vm"
        jid = "11111111-2222-4333-8444-555555555555@example.org/hv1"

    async def ask() -> None:
        query = ET.fromstring("<query xmlns='archipel:test'><archipel action='act'/></query>")
        for dummy in range(100):
            with pytest.raises(errors.PermissionDenied):
                await dispatch.answer(Machine(), Permissions(), "a@example.org/x", query)

    asyncio.run(ask())
    assert caplog.messages == [f"a@example.org/x was denied archipel:test act on {Machine.jid}"] * denials.LINES
