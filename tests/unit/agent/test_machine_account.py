# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whose the account of a machine is: the store is the agent's, and a dictionary of passwords the server."""

from __future__ import annotations

import asyncio
import types

import pytest

pytest.importorskip("slixmpp")

from archipel_agent import calm, machine_account, xmpp  # noqa: E402 - it imports slixmpp
from archipel_agent.machine_account import MachineAccount  # noqa: E402 - as above
from archipel_agent.store import Store  # noqa: E402 - as above
from archipel_protocol import errors  # noqa: E402 - as above

UUID = "11111111-2222-4333-8444-555555555555"
JID = f"{UUID}@example.org"


class Server:
    """``passwords`` by account; ``asked`` and ``logins`` are what came. ``lost``: it does, and its answer is lost."""

    def __init__(self) -> None:
        self.passwords: dict[str, str] = {}
        self.asked: list[str] = []
        self.logins: list[str] = []
        self.lost = False

    async def register(self, account: str, password: str) -> None:
        self.asked.append(password)
        await asyncio.sleep(0)
        if account in self.passwords:
            raise xmpp.Conflict("there is one")
        self.passwords[account] = password
        if self.lost:
            raise xmpp.Unreachable("no answer")


class Session:
    def __init__(self, server: Server, jid: str, owner: object) -> None:
        self.server, self.account = server, jid.partition("@")[0]

    async def login(self, password: str) -> None:
        self.server.logins.append(password)
        await asyncio.sleep(0)
        if self.server.passwords.get(self.account) != password:
            raise xmpp.NotAuthorized("no")

    async def remove_account(self) -> None:
        del self.server.passwords[self.account]


class Agent:
    """As much of one as an account looks at; ``pressed``: others were asked to give the machine up."""

    domain, node = "example.org", "hv1"

    def __init__(self, path) -> None:
        self.server = Server()
        self.store = Store(path)
        self.hypervisor = types.SimpleNamespace(session=self.server, online=asyncio.Event())
        self.hypervisor.online.set()
        self.logins = asyncio.Semaphore(16)
        self.calm = calm.Calm()
        self.pushes = types.SimpleNamespace(unmake=lambda jid: None, remove_node=self._remove_node)
        self.pressed = False
        self.forgotten = False

    async def _remove_node(self, session, jid) -> None:
        pass

    def press(self, vm) -> None:
        self.pressed = True

    def forget(self, vm) -> None:
        self.forgotten = True
        self.store.remove(vm.bare)

    def spawn(self, work, name):
        return asyncio.ensure_future(work)

    def manage(self) -> MachineAccount:
        """A machine that is new here."""
        self.store.add(JID, "web", "ours")
        vm = MachineAccount(self, UUID, "web")
        vm.unasked = True
        return vm


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Calls a coroutine function with an agent."""
    monkeypatch.setattr(machine_account.xmpp, "Session", Session)

    def run(scenario):
        async def whole():
            agent = Agent(tmp_path / "store")
            try:
                await scenario(agent)
            finally:
                agent.store.close()

        asyncio.run(asyncio.wait_for(whole(), 60))

    return run


def test_whoever_gets_it_knows_without_a_login(run):
    async def scenario(agent):
        vm = agent.manage()
        await vm.know_account()
        assert (vm.foreign, agent.server.logins, agent.store.row(JID).registered) == (False, [], True)
        await vm.login()
        assert agent.server.asked == agent.server.logins == ["ours"]

    run(scenario)


def test_who_never_asked_for_it_knows_without_a_login_that_it_is_anothers(run):
    async def scenario(agent):
        agent.server.passwords[UUID] = "theirs"
        vm = agent.manage()
        await vm.know_account()
        assert (vm.foreign, agent.pressed, agent.server.logins) == (True, True, [])
        assert not agent.store.row(JID).registered

    run(scenario)


def test_it_is_asked_for_once_however_many_want_it(run):
    async def scenario(agent):
        vm = agent.manage()
        await asyncio.gather(vm.login(), vm.know_account(), vm.know_account())
        assert agent.server.asked == ["ours"]

    run(scenario)


@pytest.mark.parametrize("dies", [False, True], ids=["lives", "dies"])
def test_it_is_ours_where_an_answer_was_lost(run, dies):
    """Whether the same agent asks again, or one that is started then."""

    async def scenario(agent):
        agent.server.lost = True
        vm = agent.manage()
        with pytest.raises(xmpp.Unreachable):
            await vm.make_account()
        agent.server.lost = False
        if dies:
            vm = MachineAccount(agent, UUID, "web")
        knowing = asyncio.ensure_future(vm.know_account())
        await vm.login()
        await knowing
        assert not vm.foreign
        assert agent.server.passwords == {UUID: "ours"}

    run(scenario)


@pytest.mark.parametrize("again", [False, True], ids=["for the first time", "after a start"])
def test_a_password_that_a_killed_server_came_back_with_is_tried(run, again):
    async def scenario(agent):
        agent.store.retire(JID, "former", removed=True)
        agent.server.passwords[UUID] = "former"
        vm = agent.manage()
        if again:
            vm = MachineAccount(agent, UUID, "web")
        await asyncio.gather(vm.login(), vm.know_account())
        assert (vm.foreign, agent.store.row(JID).password) == (False, "former")

    run(scenario)


def test_a_new_machine_waits_for_what_is_applied_unless_somebody_needs_the_login(run, monkeypatch):
    monkeypatch.setattr(calm, "PATIENCE", 3600.0)

    async def scenario(agent):
        agent.server.passwords[UUID] = "ours"
        vm = agent.manage()
        vm.unasked = False
        with agent.calm.work():
            login = asyncio.ensure_future(vm.login())
            for dummy in range(100):
                await asyncio.sleep(0)
            assert agent.server.logins == []
            # There is one already, and only a login tells whose.
            await vm.know_account()
            await login
        assert agent.server.logins == ["ours"]

    run(scenario)


def test_it_waits_no_longer_than_what_is_applied(run, monkeypatch):
    monkeypatch.setattr(calm, "PATIENCE", 3600.0)

    async def scenario(agent):
        vm = agent.manage()
        with agent.calm.work():
            login = asyncio.ensure_future(vm.login())
            await vm.know_account()
        await login

    run(scenario)


def test_what_is_anothers_is_forgotten_and_stays(run):
    async def scenario(agent):
        agent.server.passwords[UUID] = "theirs"
        vm = agent.manage()
        await vm.know_account()
        await vm.release()
        assert (agent.forgotten, agent.server.passwords) == (True, {UUID: "theirs"})

    run(scenario)


def test_an_account_that_becomes_ours_while_it_is_forgotten_is_removed(run):
    """The other hypervisor gave it up between our two questions; an account of nobody would keep the machine away."""

    async def scenario(agent):
        agent.server.passwords[UUID] = "theirs"
        vm = agent.manage()
        await vm.know_account()
        agent.server.passwords.clear()
        making = asyncio.ensure_future(vm.make_account())
        await asyncio.sleep(0)
        assert agent.server.asked == ["ours", "ours"]
        releasing = vm.release()
        await making
        vm.session = await vm.login()
        vm.online.set()
        await releasing
        assert (agent.forgotten, agent.server.passwords) == (True, {})

    run(scenario)


def test_what_has_no_row_any_more_gets_no_account(run):
    async def scenario(agent):
        vm = agent.manage()
        agent.store.remove(JID)
        with pytest.raises(errors.ArchipelError, match="has no row"):
            await vm.login()
        assert agent.server.asked == []

    run(scenario)
