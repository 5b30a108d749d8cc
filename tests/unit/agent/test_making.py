# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who makes a machine that several are asked for at the same moment. The agents' way to each other is a stand-in."""

from __future__ import annotations

import asyncio
import random
import types

import pytest

pytest.importorskip("slixmpp")

from archipel_agent import making  # noqa: E402 - it imports slixmpp
from archipel_agent.peers import CLAIM  # noqa: E402 - as above
from archipel_protocol import declaration as wire, errors  # noqa: E402 - as above

UUID = "11111111-2222-4333-8444-555555555555"
SEEDS = range(300)


class Agent:
    """As much of one as making.py looks at. ``accounts`` is the server's, given to who asks first."""

    def __init__(self, node: str, accounts: dict[str, str], peers: list[str]) -> None:
        self.node = node
        self.managed: set[str] = set()
        self.config = types.SimpleNamespace(peers={peer: types.SimpleNamespace(node=peer) for peer in peers})
        self.making = making.Making(self)
        self.tasks: set[asyncio.Task[None]] = set()
        self.lock = asyncio.Lock()
        self.accounts = accounts
        self.vms = {
            UUID: types.SimpleNamespace(know_account=self._know_account, foreign=False, bare=f"{UUID}@example.org")
        }
        self.asked_server = False

    async def _know_account(self) -> None:
        self.asked_server = True
        await asyncio.sleep(0)
        self.vms[UUID].foreign = self.accounts.setdefault(UUID, self.node) != self.node

    def is_managed(self, uuid: str) -> bool:
        return uuid in self.managed

    def spawn(self, work, name):
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        return task

    async def make(self, lost: tuple[str, ...] = ()) -> str:
        """As execution.py does: "" where it is made, else why not."""
        async with self.lock:
            self.managed.add(UUID)
            try:
                await self.making.secure(UUID, lost)
            except errors.ArchipelError as fault:
                self.managed.discard(UUID)
                return fault.message
            return ""


class World:
    """Agents, and what is between them: ``silent`` (who asks, who is asked) get no answer, ``asked`` came through."""

    def __init__(self, monkeypatch, *nodes: str, seed: int = 0, alone: bool = False) -> None:
        accounts: dict[str, str] = {}
        peers = {node: [] if alone else [one for one in nodes if one != node] for node in nodes}
        self.agents = {node: Agent(node, accounts, peers[node]) for node in nodes}
        self.silent: set[tuple[str, str]] = set()
        self.asked: list[tuple[str, str, list[str]]] = []
        self.hops = random.Random(seed)
        monkeypatch.setattr(making, "ask", self.ask)

    async def pause(self) -> None:
        for dummy in range(self.hops.randrange(6)):
            await asyncio.sleep(0)

    async def ask(self, agent, peer, action, content):
        await self.pause()
        if (agent.node, peer.node) in self.silent:
            raise errors.ArchipelError("no answer")
        other = self.agents[peer.node]
        if action == making.MAKE:
            self.asked.append((agent.node, peer.node, content["uuids"]))
            request = types.SimpleNamespace(text=wire.encode(content), sender=f"{agent.node}@example.org/{agent.node}")
            answer = wire.decode(await making.make(types.SimpleNamespace(agent=other), request))
        else:
            assert action == CLAIM
            async with other.lock:
                answer = {"managed": UUID in other.managed}
        await self.pause()
        return answer

    async def all_make(self, times: int = 1) -> dict[str, str]:
        async def make(agent):
            await self.pause()
            return await agent.make()

        agents = [agent for agent in self.agents.values() for dummy in range(times)]
        found = await asyncio.gather(*map(make, agents))
        return dict(zip((agent.node for agent in agents), found))


@pytest.mark.parametrize("nodes", [("hv1", "hv2"), ("hv1", "hv2", "hv3", "hv4")], ids=len)
def test_one_of_several_makes_it(monkeypatch, nodes):
    for seed in SEEDS:
        world = World(monkeypatch, *nodes, seed=seed)
        found = asyncio.run(world.all_make())
        assert sorted(found.values())[0] == "", (seed, found)
        (here,) = [node for node, error in found.items() if not error]
        assert [node for node, agent in world.agents.items() if UUID in agent.managed] == [here]
        assert not any(agent.asked_server for agent in world.agents.values())
        others = {error for node, error in found.items() if node != here}
        assert all("makes it at this moment, or has it; nothing was done here" in error for error in others)


def test_no_two_make_it_where_some_are_silent(monkeypatch):
    nodes = ("hv1", "hv2", "hv3")
    for seed in SEEDS:
        world = World(monkeypatch, *nodes, seed=seed)
        pairs = [(one, other) for one in nodes for other in nodes if one != other]
        world.silent = {pair for pair in pairs if world.hops.random() < 0.2}
        found = asyncio.run(world.all_make())
        assert list(found.values()).count("") <= 1, (seed, found)


def test_it_is_made_by_the_next_where_the_first_could_not(monkeypatch):
    world = World(monkeypatch, "hv1", "hv2")
    first, second = world.agents.values()

    async def scenario():
        async with first.lock:
            first.managed.add(UUID)
            waiting = asyncio.ensure_future(second.make())
            for dummy in range(50):
                await asyncio.sleep(0)
            assert not waiting.done()
            first.managed.discard(UUID)
        return await waiting

    assert asyncio.run(scenario()) == ""


def test_nothing_is_made_while_a_peer_is_silent(monkeypatch):
    world = World(monkeypatch, "hv1", "hv2", "hv3")
    world.silent = {("hv1", "hv2")}
    told = asyncio.run(world.agents["hv1"].make())
    assert told == "hv2, which may have it, does not say so: no answer; nothing was done here"
    # Whoever declares that it is lost takes it upon himself.
    assert asyncio.run(world.agents["hv1"].make(lost=("hv2",))) == ""
    assert not world.agents["hv1"].accounts


def test_without_peers_the_server_settles_it(monkeypatch):
    world = World(monkeypatch, "hv1", "hv2", alone=True)
    found = asyncio.run(world.all_make())
    assert sorted(map(bool, found.values())) == [False, True]
    (told,) = filter(None, found.values())
    assert told.startswith(f"the account {UUID}@example.org exists, so another hypervisor may have it")


def test_who_is_lost_and_answers_counts(monkeypatch):
    world = World(monkeypatch, "hv1", "hv2")
    world.agents["hv2"].managed.add(UUID)
    assert "hv2 makes it" in asyncio.run(world.agents["hv1"].make(lost=("hv2",)))


def test_who_manages_it_is_asked_to_give_it_up(monkeypatch):
    world = World(monkeypatch, "hv1", "hv2")
    world.agents["hv2"].managed.add(UUID)
    told = asyncio.run(world.agents["hv1"].make())
    assert told == "hv2 makes it at this moment, or has it; nothing was done here"


def test_machines_are_asked_for_together(monkeypatch):
    world = World(monkeypatch, "hv1", "hv2")
    first = world.agents["hv1"]
    uuids = [UUID[:-3] + f"{number:03}" for number in range(50)]

    async def scenario():
        await asyncio.gather(*(first.making.secure(uuid, ()) for uuid in uuids))

    asyncio.run(scenario())
    assert sorted(uuid for dummy, other, found in world.asked for uuid in found) == uuids
    assert len(world.asked) <= 2


def test_an_answer_that_says_nothing_is_silence(monkeypatch):
    world = World(monkeypatch, "hv1", "hv2")

    async def nothing(*args):
        return {}

    monkeypatch.setattr(making, "ask", nothing)
    told = asyncio.run(world.agents["hv1"].make())
    assert told.startswith("hv2, which may have it, does not say so: hv2 does not say which machines are taken")


@pytest.mark.parametrize("uuids", [None, "x", ["x"], [1], ["A" + UUID[1:]], [UUID] * (making.MOST + 1)], ids=range(6))
def test_a_question_is_checked(monkeypatch, uuids):
    world = World(monkeypatch, "hv1")
    entity = types.SimpleNamespace(agent=world.agents["hv1"])
    request = types.SimpleNamespace(text=wire.encode({"uuids": uuids}), sender="hv2@example.org/hv2")
    with pytest.raises(errors.MalformedRequest, match="make needs 'uuids'"):
        asyncio.run(making.make(entity, request))
