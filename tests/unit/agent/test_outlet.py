# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""When pushes go: at once, and in a crowd together, each once and in their order.

The server is a mock here, because what is looked at is when the agent sends; the real one has its tests in
tests/integration/test_archipel_agent_pushes.py.
"""

from __future__ import annotations

import asyncio
import types

import pytest

pytest.importorskip("slixmpp")

from archipel_agent import calm, outlet  # noqa: E402 - it imports slixmpp
from archipel_agent.outbox import Outbox  # noqa: E402 - as above

WEB = "11111111-2222-4333-8444-555555555555@example.org"


class World:
    """An outlet that is open, before a server that takes what it is sent when answer() says so."""

    def __init__(self, path):
        self.sent, self.answers = [], []
        self.calm = calm.Calm()
        self.outbox = Outbox(path)
        pushes = types.SimpleNamespace(made={(WEB, outlet.NODE): outlet.events_node.digest(frozenset())})
        pushes.readers = lambda jid: frozenset()
        self.outlet = outlet.Outlet(types.SimpleNamespace(calm=self.calm), pushes, self.outbox, WEB, [])
        session = types.SimpleNamespace(connected=True, ask=self._ask, domain="example.org", jid=WEB)
        self.outlet.open(types.SimpleNamespace(session=session))

    def _ask(self, to, query, **more):
        self.sent.append(next(query.iter("{http://jabber.org/protocol/pubsub}item")).get("id"))
        future = asyncio.get_running_loop().create_future()
        self.answers.append(future)
        return future

    def tell(self, *numbers):
        for item in self.outbox.add([(WEB, f"{number}", "<push xmlns='archipel:push:x'/>") for number in numbers]):
            self.outlet.add(item)

    def answer(self):
        for future in self.answers:
            future.set_result(None)
        self.answers.clear()


@pytest.fixture
def scene(tmp_path, monkeypatch):
    monkeypatch.setattr(outlet.events_node, "_service", lambda session: "pubsub.example.org")
    monkeypatch.setattr(calm, "LATE", 0.01)

    def play(scenario):
        async def run():
            world = World(tmp_path / "pushes.sqlite3")
            try:
                await asyncio.wait_for(scenario(world), 60)
            finally:
                world.outlet.shut()
                world.outbox.close()

        asyncio.run(run())

    return play


def test_pushes_go_at_once_also_while_few_machines_are_worked_on(scene):
    async def scenario(world):
        with world.calm.work(calm.FEW):
            world.tell(1)
            assert world.sent == ["1"]
            world.tell(2)
            assert world.sent == ["1", "2"]

    scene(scenario)


def test_in_a_crowd_they_go_together_and_all_of_them(scene, monkeypatch):
    monkeypatch.setattr(outlet, "IN_FLIGHT", 4)

    async def scenario(world):
        with world.calm.work(calm.FEW + 1):
            world.tell(*range(6))
            world.tell(6)
            assert world.sent == []
            while not world.sent:
                await asyncio.sleep(0.001)
            assert world.sent == ["0", "1", "2", "3"]
            # What comes while these are on their way goes with the rest of them; what comes then is put off again.
            world.tell(7)
            while len(world.sent) < 8:
                world.answer()
                await asyncio.sleep(0)
            world.tell(8)
            assert len(world.sent) == 8
            while len(world.sent) < 9:
                world.answer()
                await asyncio.sleep(0.001)
        assert world.sent == [f"{number}" for number in range(9)]

    scene(scenario)


def test_what_was_put_off_goes_with_the_first_that_is_not(scene, monkeypatch):
    monkeypatch.setattr(calm, "LATE", 3600.0)

    async def scenario(world):
        with world.calm.work(calm.FEW + 1):
            world.tell(1)
        world.tell(2)
        assert world.sent == ["1", "2"]

    scene(scenario)


def test_what_the_server_has_had_its_time_for_is_forgotten(scene, monkeypatch):
    monkeypatch.setattr(outlet, "WRITTEN", 0.01)

    async def scenario(world):
        for round_ in range(2):
            world.tell(round_, f"{round_}b")
            world.answer()
            await asyncio.sleep(0)
            assert [item.id for item in world.outbox.items()[WEB]] == [f"{round_}", f"{round_}b"]
            while world.outbox.items():
                await asyncio.sleep(0.001)

    scene(scenario)


def test_of_many_that_the_server_acknowledges_the_oldest_are_forgotten(scene, monkeypatch):
    monkeypatch.setattr(outlet, "UNWRITTEN", 10)

    async def scenario(world):
        world.tell(*range(12))
        world.answer()
        await asyncio.sleep(0)
        kept = [int(item.id) for item in world.outbox.items()[WEB]]
        assert kept == list(range(12))[-len(kept) :] and 2 <= len(kept) <= 10

    scene(scenario)
