# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pushes on the real server: who gets them, what they tell of changes made with virsh, and that faults lose none."""

from __future__ import annotations

import json
import re
import uuid
from xml.sax.saxutils import escape

import pytest
from people import CONTROL, HYPERVISOR, Machine, answers, manage, until
from xmpp_stream import CLIENT, Refused

PUBSUB = "http://jabber.org/protocol/pubsub"
EVENT = f"{{{PUBSUB}#event}}"
PERMISSIONS = "archipel:permissions"
MACHINE = "<domain type='qemu'><memory unit='MiB'>32</memory><os><type arch='x86_64'>hvm</type></os></domain>"


def node_of(jid: str) -> str:
    return f"/archipel/{jid.partition('/')[0]}/events"


class Reader:
    """Somebody who follows events nodes; ``told`` are (node, id, subject, kind, change) in the order of arrival."""

    def __init__(self, person) -> None:
        self.stream = person.stream
        self.domain = person.domain
        self.service = f"pubsub.{person.domain}"
        self.told: list[tuple[str, str, str, str, str]] = []

    def ask(self, kind: str, content: str, namespace: str = PUBSUB):
        return self.stream.ask(kind, f"<pubsub xmlns='{namespace}'>{content}</pubsub>", self.service)

    def subscribe(self, jid: str, user: str) -> None:
        self.ask("set", f"<subscribe node='{node_of(jid)}' jid='{user}@{self.domain}'/>")

    def kept(self, jid: str) -> list[tuple[str, str]]:
        """(kind, change) of the items that the node keeps, the oldest first.

        An ejabberd that was killed may show items of another machine there, which nobody can remove.
        """
        bare = jid.partition("/")[0]
        machine = re.match(r"[0-9a-f-]{36}@", jid)
        return [push[2:] for push in self.items(jid) if not machine or push[1].partition("/")[0] == bare]

    def items(self, jid: str) -> list[tuple[str, str, str, str]]:
        """(id, subject, kind, change) of all of them."""
        answer = self.ask("get", f"<items node='{node_of(jid)}'/>")
        return [_push(item) for item in answer.iter(f"{{{PUBSUB}}}item")]

    def listen(self, seconds: float = 3.0) -> None:
        """Takes in what comes until nothing has come for ``seconds``."""
        before = self.stream.timeout(seconds)
        try:
            while True:
                self._take(self.stream.read())
        except TimeoutError:
            pass
        finally:
            self.stream.timeout(before)

    def changes(self, jid: str, subject: str | None = None) -> list[tuple[str, str]]:
        """(kind, change) of what a node told of a machine, its grants aside."""
        where = (node_of(jid), (subject or jid).partition("/")[0])
        told = [(kind, change) for node, dummy, who, kind, change in self.told if (node, who) == where]
        return [one for one in told if one[0] != "permissions"]

    def _take(self, stanza) -> None:
        if stanza.tag != CLIENT + "message" or next(stanza.iter(EVENT + "items"), None) is None:
            return
        assert stanza.get("type") == "headline"
        assert stanza.get("from") == self.service
        for items in stanza.iter(EVENT + "items"):
            self.told += [(items.get("node"), *_push(item)) for item in items.iter(EVENT + "item")]


def _push(item) -> tuple[str, str, str, str]:
    namespace, dummy, name = item[0].tag[1:].partition("}")
    assert name == "push"
    assert item[0].get("date").endswith("Z")
    return item.get("id"), item[0].get("jid"), namespace.removeprefix("archipel:push:"), item[0].get("change")


CREATED, SUSPENDED, RESUMED, SHUTDOWN, SHUTOFF, CRASHED = (
    ("virtualmachine:control", change)
    for change in ("created", "suspended", "resumed", "shutdown", "shutoff", "crashed")
)
DEFINED = ("virtualmachine:definition", "defined")


@pytest.fixture
def admin(log_in):
    return log_in("admin")


@pytest.fixture
def reader(account, admin, managed, hypervisor):
    """Alice, who may see the presence of machine and hypervisor, and follows both."""
    alice = account("alice")
    for entity in (managed.jid, hypervisor):
        admin.act(entity, PERMISSIONS, "set", _grant(f"alice@{alice.domain}", "true"))
        # An account of that name may have been there before, and have taken its place on the node with it.
        alice.stream.write(f"<presence type='subscribe' to='{entity.partition('/')[0]}'/>")
    reader = Reader(alice)
    for entity in (managed.jid, hypervisor):
        until(lambda entity=entity: _subscribed(reader, entity))
    yield reader
    admin.act(hypervisor, PERMISSIONS, "set", _grant(f"alice@{alice.domain}", "false"))


def _grant(jid: str, value: str) -> str:
    return (
        f"<permission permission_type='user' permission_target='{jid}' permission_name='presence'"
        f" permission_value='{value}'/>"
    )


def _subscribed(reader, entity, user="alice") -> bool:
    try:
        reader.subscribe(entity, user)
    except Refused:
        return False
    return True


def test_virsh_is_told_in_order_on_both_nodes(managed, reader, hypervisor):
    for command in ("start", "suspend", "resume", "destroy"):
        managed.virsh(command)
    managed.define()
    managed.virsh("start")
    managed.run(f"kill -KILL $(cat /run/libvirt/qemu/{managed.name}.pid)")
    reader.listen()
    told = [CREATED, SUSPENDED, RESUMED, SHUTDOWN, SHUTOFF, DEFINED, CREATED, CRASHED]
    assert reader.changes(managed.jid) == told
    assert reader.changes(hypervisor, managed.jid) == told


def test_of_machines_that_are_made_together_all_is_told_and_each_change_once(reader, hypervisor, automation):
    uuids = [str(uuid.uuid4()) for dummy in range(12)]

    def declare(**wanted):
        vms = [{"uuid": one, "name": f"told-{one[:8]}", "domain": MACHINE, **wanted} for one in uuids]
        answer = automation.act(hypervisor, "archipel:declaration", "apply", escape(json.dumps({"vms": vms})))
        assert [one.get("error") for one in json.loads(answer.text)["results"]] == [None] * len(vms)

    reader.listen()
    reader.told.clear()
    declare(state="running")
    try:
        reader.listen()
        before = len(reader.told)
        for one in uuids:
            assert reader.changes(hypervisor, f"{one}@{reader.domain}") == [DEFINED, CREATED]
        # None of them comes again.
        reader.listen()
        assert len(reader.told) == before
        assert reader.changes(hypervisor) == [("hypervisor", "alloc")] * len(uuids)
    finally:
        declare(state="absent", force=True)


def test_who_holds_no_presence_is_refused(managed, account, hypervisor):
    bob = Reader(account("bob"))
    for entity in (managed.jid, hypervisor):
        with pytest.raises(Refused):
            bob.subscribe(entity, "bob")
        with pytest.raises(Refused):
            bob.kept(entity)
        with pytest.raises(Refused, match="forbidden"):
            lie = "<item id='lie'><push xmlns='archipel:push:lie'/></item>"
            bob.ask("set", f"<publish node='{node_of(entity)}'>{lie}</publish>")


def test_a_grant_that_is_taken_back_takes_the_pushes_too(managed, admin, reader, hypervisor):
    managed.virsh("start")
    reader.listen()
    assert CREATED in reader.changes(managed.jid)
    admin.act(managed.jid, PERMISSIONS, "set", _grant(f"alice@{reader.domain}", "false"))
    until(lambda: not _subscribed(reader, managed.jid))
    managed.virsh("suspend")
    reader.listen()
    assert SUSPENDED not in reader.changes(managed.jid)
    # Her grant on the hypervisor holds on.
    assert SUSPENDED in reader.changes(hypervisor, managed.jid)


def test_what_happens_while_the_agent_is_away_is_told_once(managed, reader, automation):
    managed.run("systemctl kill --signal=KILL archipel-agent; systemctl stop archipel-agent")
    managed.virsh("start")
    managed.virsh("suspend")
    managed.run("systemctl start archipel-agent")
    until(lambda: answers(automation, managed.jid))
    reader.listen()
    assert reader.changes(managed.jid) == [CREATED, SUSPENDED]
    managed.run("systemctl restart archipel-agent")
    until(lambda: answers(automation, managed.jid))
    reader.listen()
    assert reader.changes(managed.jid) == [CREATED, SUSPENDED]


def test_what_happens_while_libvirtd_restarts_is_told_once(managed, reader, automation):
    managed.virsh("start")
    managed.run("systemctl restart libvirtd && virsh -q suspend " + managed.uuid)
    until(lambda: (answers(automation, managed.jid) or [None])[0] is not None)
    reader.listen(8)
    assert reader.changes(managed.jid) == [CREATED, SUSPENDED]


def test_what_happens_while_the_server_is_away_is_on_the_node_once(platform, domain, hypervisor, log_in):
    domain.define()
    manage(log_in("automation"), hypervisor, domain)
    platform.run(platform.xmpp, "systemctl stop ejabberd")
    for command in ("start", "suspend", "resume"):
        domain.virsh(command)
    platform.run(platform.xmpp, "systemctl start ejabberd")
    automation = until(lambda: _back(log_in))
    reader = Reader(automation)
    until(lambda: answers(automation, domain.jid), 60)
    until(lambda: RESUMED in reader.kept(domain.jid))
    # Whether the machine had its node when libvirt told of its definition is a matter of milliseconds.
    assert [push for push in reader.kept(domain.jid) if push != DEFINED] == [CREATED, SUSPENDED, RESUMED]
    automation.act(hypervisor, HYPERVISOR, "unmanage", f"<item jid='{domain.bare}'/>")
    for host in platform.hypervisors:
        # The other agents come back in their own time.
        until(lambda host=host: _serves(automation, f"{host}@{platform.domain}/{host}"))


def _serves(person, hypervisor):
    try:
        person.act(hypervisor, HYPERVISOR, "rostervm")
    except Refused:
        return False
    return True


def _back(log_in):
    try:
        return log_in("automation")
    except (OSError, Refused):
        return None


# An item and an owner under each number that the server may give to its next nodes, as it leaves them when it is killed
# after the removal of a node: records of ejabberd's tables pubsub_item and pubsub_state.
REMAINS = """
N = list_to_atom(os:getenv("ERLANG_NODE")), W = {{<<"mallory">>, <<"{domain}">>, <<>>}},
M = fun(F, A) -> rpc:call(N, mnesia, F, A) end,
[{{_, _, Last, Free}}] = M(dirty_read, [pubsub_index, node]),
{what}, halt().
"""
LEFT = """
[Item | _] = M(dirty_select, [pubsub_item, [{'_', [], ['$_']}]]),
[begin
    ok = M(dirty_write, [setelement(2, setelement(3, Item, I), {<<"remains">>, I})]),
    ok = M(dirty_write, [{pubsub_state, {W, I}, I, [<<"remains">>], owner, []}])
end || I <- Free ++ lists:seq(Last + 1, Last + 8)]
"""
REMOVED = """
[begin
    ok = M(dirty_delete, [pubsub_item, {<<"remains">>, I}]),
    ok = M(dirty_delete, [pubsub_state, {W, I}])
end || I <- lists:seq(1, Last + 99)]
"""
ERLANG = """
set -a; . /etc/ejabberd/ejabberdctl.cfg; cd /var/lib/ejabberd
cat > /tmp/remains <<'END'
{code}
END
chmod 0644 /tmp/remains
export HOME=/var/lib/ejabberd
runuser -u ejabberd -- erl -noinput -hidden -sname remains@localhost -eval "$(cat /tmp/remains)"
rm /tmp/remains
"""


def _remains(platform, what: str) -> None:
    platform.run(platform.xmpp, ERLANG.format(code=REMAINS.format(domain=platform.domain, what=what)))


def test_a_new_node_has_nothing_of_one_that_is_gone(platform, managed, hypervisor, automation, account):
    mallory = account("mallory")
    # There is an item to be copied.
    managed.virsh("start")
    reader = Reader(automation)
    until(lambda: CREATED in reader.kept(managed.jid))
    _remains(platform, LEFT)
    other = Machine(platform).define()
    try:
        manage(automation, hypervisor, other)
        other.virsh("start")
        until(lambda: CREATED in reader.kept(other.jid))
        assert {subject for dummy, subject, *rest in reader.items(other.jid)} == {other.bare}
        with pytest.raises(Refused, match="forbidden|not-allowed"):
            Reader(mallory).kept(other.jid)
    finally:
        _remains(platform, REMOVED)
        automation.act(hypervisor, HYPERVISOR, "unmanage", f"<item jid='{other.bare}'/>")
        other.remove()


def test_the_node_moves_with_the_machine_and_goes_with_its_account(platform, managed, automation, log_in):
    reader = Reader(log_in("automation"))
    until(lambda: _subscribed(reader, managed.jid, "automation"))
    target = platform.hypervisors[1]
    automation.act(managed.jid, CONTROL, "migrate", hypervisorjid=f"{target}@{platform.domain}/{target}")
    moved = managed.jid.rpartition("/")[0] + "/" + target
    managed.host = target
    managed.virsh("start")
    reader.listen()
    assert reader.changes(managed.jid) == [CREATED]
    assert ("hypervisor", "migrate") in Reader(automation).kept(f"{target}@{platform.domain}")
    there = f"{target}@{platform.domain}/{target}"
    assert answers(automation, moved) is not None
    automation.act(there, HYPERVISOR, "unmanage", f"<item jid='{managed.bare}'/>")
    with pytest.raises(Refused, match="item-not-found"):
        Reader(automation).kept(managed.jid)


def test_a_node_of_somebody_else_is_not_used(platform, domain, automation, hypervisor, log_in):
    domain.define()
    intruder = Reader(log_in(platform.hypervisors[1]))
    node = node_of(domain.bare)
    intruder.ask("set", f"<create node='{node}'/>")
    try:
        manage(automation, hypervisor, domain)
        domain.virsh("start")
        until(lambda: f"the node {node} is refused" in domain.run("journalctl -u archipel-agent --since=-1min"))
        assert intruder.kept(domain.bare) == []
        assert CREATED in Reader(automation).kept(hypervisor)
    finally:
        intruder.ask("set", f"<delete node='{node}'/>", PUBSUB + "#owner")
        automation.act(hypervisor, HYPERVISOR, "unmanage", f"<item jid='{domain.bare}'/>")
