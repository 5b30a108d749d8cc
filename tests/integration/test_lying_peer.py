# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""A hypervisor that lies: a configured peer whose account somebody else uses gets no password and removes nothing."""

from __future__ import annotations

import contextlib
import json
import threading
import uuid as uuidlib
from xml.sax.saxutils import escape

import pytest
from people import CONTROL, HYPERVISOR, Failed, answers, until
from test_handover import password_of, rows
from xmpp_stream import CLIENT, Refused

HANDOVER = "archipel:handover"
ELSEWHERE = {"uri": "qemu+tls://192.0.2.1/system", "host": "192.0.2.1", "node": "hv9", "jid": "hv9@192.0.2.1/hv9"}
# What is no answer of a host that has no such machine.
NONSENSE = ("", "no JSON", "[]", "{}", '{"state": "5"}', '{"state": [null]}', '{"state": 99}', '{"state": 5}')
ACCOUNTS = "SELECT jid, password, next_password FROM virtualmachines ORDER BY jid"
GRANTS = "SELECT * FROM grants ORDER BY entity, subject, name"


class Liar:
    """Is logged in in the place of the second hypervisor's agent, and answers what others ask of it with ``lie``."""

    def __init__(self, stream) -> None:
        self._stream = stream
        self.lie = ""
        self.asked: list[tuple[str, str]] = []  # action and content
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._answer)

    def __enter__(self) -> Liar:
        self._stream.timeout(0.5)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._done.set()
        self._thread.join()

    def _answer(self) -> None:
        while not self._done.is_set():
            with contextlib.suppress(TimeoutError):
                stanza = self._stream.read()
                if stanza.tag == CLIENT + "iq" and stanza.get("type") in ("get", "set"):
                    self._stream.write(self._reply(stanza))

    def _reply(self, stanza) -> str:
        to = f"to='{stanza.get('from')}' id='{stanza.get('id')}'"
        if stanza[0].tag != f"{{{HANDOVER}}}query":
            return f"<iq type='result' {to}/>"
        self.asked.append((stanza[0][0].get("action"), stanza[0][0].text))
        return f"<iq type='result' {to}><query xmlns='{HANDOVER}'>{escape(self.lie)}</query></iq>"


@pytest.fixture
def target(platform):
    """The node of the second hypervisor."""
    return platform.hypervisors[1]


@pytest.fixture
def liar(platform, target, automation, managed):
    platform.run(target, "systemctl stop archipel-agent")
    try:
        with platform.stream() as stream:
            stream.login(target, platform.password(target), target).write("<presence/>")
            with Liar(stream) as liar:
                yield liar
    finally:
        platform.run(target, f"virsh -q undefine {managed.uuid}", check=False)
        platform.run(target, "systemctl start archipel-agent")
    until(lambda: _listens(automation, f"{target}@{platform.domain}/{target}"))


def _listens(automation, hypervisor: str) -> bool:
    with contextlib.suppress(Refused, TimeoutError):
        return automation.act(hypervisor, HYPERVISOR, "rostervm") is not None
    return False


@pytest.fixture
def peer(log_in, target):
    """Somebody with the second hypervisor's password."""
    return log_in(target)


def has(platform, host: str, uuid: str) -> bool:
    return uuid in platform.run(host, "virsh -q list --all --uuid").split()


def move(automation, machine, target: str) -> str:
    """Why it does not move."""
    automation.stream.patience(60)
    with pytest.raises(Failed) as caught:
        automation.act(machine.jid, CONTROL, "migrate", hypervisorjid=f"{target}@{machine.platform.domain}/{target}")
    return caught.value.text


def test_nothing_moves_to_a_target_that_answers_nonsense(platform, managed, automation, target, liar):
    for liar.lie in NONSENSE:
        assert f"cannot move from {managed.host} to {target}" in move(automation, managed, target), liar.lie
    assert has(platform, managed.host, managed.uuid) and not has(platform, target, managed.uuid)
    assert answers(automation, managed.jid)
    assert {action for action, dummy in liar.asked} == {"query"}


def test_the_configuration_says_where_a_machine_goes_and_who_denies_it_gets_no_password(
    platform, managed, automation, target, liar
):
    password = password_of(platform, managed.host, managed)
    liar.lie = json.dumps({"state": None, "problems": [], "copy": ["vda"], **ELSEWHERE})
    assert f"{managed.name} stays on {managed.host}" in move(automation, managed, target)
    # libvirt asked the host that the configuration names, whatever its agent's account tells.
    assert has(platform, target, managed.uuid)
    assert {action for action, dummy in liar.asked} == {"query"}
    assert not any(password in content for dummy, content in liar.asked)
    assert password_of(platform, managed.host, managed) == password


def test_who_announces_machines_that_do_not_come_gets_none(platform, managed, automation, hypervisor, peer):
    def ask(action: str, uuid: str, **more) -> dict:
        content = escape(json.dumps({"uuid": uuid, **more}))
        return json.loads(peer.act(hypervisor, HANDOVER, action, content).text)

    def offer(uuid: str) -> dict:
        everything = [[f"mallory@{platform.domain}", "all"]]
        return ask("offer", uuid, name="stolen", password="known-to-mallory", grants=everything)

    before = rows(platform, managed.host, "hypervisor.sqlite3", ACCOUNTS)
    granted = rows(platform, managed.host, "permissions.sqlite3", GRANTS)
    # One that is nowhere, one that nobody manages and one that is managed, all announced.
    nowhere, unmanaged = str(uuidlib.uuid4()), type(managed)(platform)
    unmanaged.define()
    try:
        for uuid in (nowhere, unmanaged.uuid, managed.uuid):
            ask("query", uuid, announced=True)
        with pytest.raises(Failed, match=f"has no domain {nowhere}, so its account is not taken"):
            offer(nowhere)
        with pytest.raises(Failed, match=f"has not announced {unmanaged.uuid}, or it was on {managed.host} before"):
            offer(unmanaged.uuid)
        assert offer(managed.uuid)["vm"]["name"] == managed.name
    finally:
        unmanaged.remove()
    assert rows(platform, managed.host, "hypervisor.sqlite3", ACCOUNTS) == before
    assert rows(platform, managed.host, "permissions.sqlite3", GRANTS) == granted
