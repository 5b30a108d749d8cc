# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What goes with a machine to another hypervisor, and what does not: its grants, and who knows its password."""

from __future__ import annotations

import contextlib
import json

import pytest
from people import CONTROL, HYPERVISOR, Failed, answers, until
from test_permissions import PERMISSIONS, get, grants
from xmpp_stream import Refused

READ = "import json, sqlite3; print(json.dumps(sqlite3.connect('/var/lib/archipel/{}').execute('{}').fetchall()))"


def rows(platform, host: str, database: str, query: str) -> list:
    return json.loads(platform.run(host, f'python3 -c "{READ.format(database, query)}"'))


def password_of(platform, host: str, machine) -> str:
    found = rows(platform, host, "hypervisor.sqlite3", "SELECT jid, password FROM virtualmachines")
    return dict(found)[machine.bare]


@pytest.fixture
def moved(platform, managed, automation):
    """Moves the machine to the second hypervisor, and back at the end; returns its JID there."""
    where, elsewhere = platform.hypervisors[:2]
    jid = f"{managed.bare}/{elsewhere}"

    def move() -> str:
        automation.act(managed.jid, CONTROL, "migrate", hypervisorjid=f"{elsewhere}@{platform.domain}/{elsewhere}")
        return jid

    yield move
    with contextlib.suppress(Refused):
        automation.act(jid, CONTROL, "migrate", hypervisorjid=f"{where}@{platform.domain}/{where}")


def ended(stream) -> str:
    """Waits for the end of a stream; its error's condition."""
    condition = ""
    with contextlib.suppress(ConnectionError):
        while True:
            stanza = stream.read()
            if stanza.tag.endswith("}error"):
                condition = stanza[0].tag.partition("}")[2]
    return condition


def test_grants_go_with_the_machine_but_for_host_access(platform, managed, moved, log_in, account):
    admin, alice = log_in("admin"), account("alice")
    jid = f"alice@{alice.domain}"
    admin.act(managed.jid, PERMISSIONS, "set", grants(jid, "info", "create", "host_access"))
    there = moved()
    assert alice.act(there, CONTROL, "info")[0].get("state") == "5"
    assert get(admin, there, jid) == {"info", "create"}
    with pytest.raises(Failed, match="lacks the permission 'destroy'"):
        alice.act(there, CONTROL, "destroy")
    left = rows(platform, managed.host, "permissions.sqlite3", "SELECT entity FROM grants")
    assert [managed.bare] not in left


def test_who_was_logged_in_with_the_old_password_is_out(platform, managed, moved):
    password = password_of(platform, managed.host, managed)
    with platform.stream() as hidden, platform.stream() as seen:
        hidden.login(managed.uuid, password, "thief")  # without a presence
        seen.login(managed.uuid, password, "another thief").write("<presence/>")
        moved()
        assert ended(hidden) == "conflict" and ended(seen) == "conflict"
    with platform.stream() as again, pytest.raises(Refused, match="not-authorized"):
        again.login(managed.uuid, password)


def test_who_is_logged_in_beside_the_agent_is_out_at_its_next_login(platform, managed, automation):
    password = password_of(platform, managed.host, managed)
    with platform.stream() as thief:
        thief.login(managed.uuid, password, "thief")
        managed.run("systemctl restart archipel-agent")
        until(lambda: answers(automation, managed.jid))
        assert ended(thief) == "conflict"
    until(lambda: password_of(platform, managed.host, managed) != password)
    with platform.stream() as again, pytest.raises(Refused, match="not-authorized"):
        again.login(managed.uuid, password)


def test_an_answer_that_was_lost_does_not_bring_old_grants_back(platform, managed, log_in):
    admin, peer = log_in("admin"), log_in(platform.hypervisors[1])
    jid = f"mallory@{platform.domain}"
    offer = {
        "uuid": managed.uuid,
        "name": managed.name,
        "password": "x",
        "grants": [[jid, "all"], [jid, "host_access"]],
    }
    to = f"{managed.host}@{platform.domain}/{managed.host}"
    content = json.dumps(offer).replace("<", "&lt;")
    peer.act(to, "archipel:handover", "offer", content)
    assert get(admin, managed.jid, jid) == set()


@pytest.fixture
def second(platform, managed, automation):
    """The full JID of the second hypervisor, where nothing of the machine is left at the end."""
    node = platform.hypervisors[1]
    jid = f"{node}@{platform.domain}/{node}"
    yield jid
    with contextlib.suppress(Failed):
        automation.act(jid, HYPERVISOR, "unmanage", f"<item jid='{managed.bare}'/>")
    for command in (
        f"virsh -q destroy {managed.uuid}",
        f"virsh -q undefine {managed.uuid}",
        f"rm -f /tmp/{managed.name}.xml",
    ):
        platform.run(node, command, check=False)


@pytest.fixture
def elsewhere(platform, managed, second):
    """The same, with a domain of the same UUID."""
    xml = managed.virsh("dumpxml --inactive --security-info")
    command = f"cat > /tmp/{managed.name}.xml <<'END'\n{xml}\nEND\nvirsh -q define /tmp/{managed.name}.xml"
    platform.run(platform.hypervisors[1], command)
    return second


def managing(automation, hypervisor) -> set[str]:
    listed = automation.act(hypervisor, HYPERVISOR, "rostervm")
    return {item.text.partition("/")[0] for item in listed if item.get("managed") == "True"}


@pytest.mark.parametrize("option", ["--undefinesource", ""], ids=["and forgotten", "and left behind"])
def test_a_machine_that_virsh_has_moved_is_the_other_hypervisor_s(
    platform, managed, second, automation, hypervisor, option
):
    node = platform.hypervisors[1]
    managed.virsh("start")
    managed.run(f"virsh -q migrate --live --p2p --tls --persistent {option} {managed.uuid} qemu+tls://{node}/system")
    automation.act(second, HYPERVISOR, "manage", f"<item jid='{managed.bare}'/>")
    until(lambda: answers(automation, f"{managed.bare}/{node}"))
    assert managed.bare not in managing(automation, hypervisor)
    assert managed.bare in managing(automation, second)


def test_of_two_definitions_the_one_that_runs_is_the_machine(platform, managed, elsewhere, automation, hypervisor):
    node = platform.hypervisors[1]
    platform.run(node, f"virsh -q start {managed.uuid}")
    automation.act(elsewhere, HYPERVISOR, "manage", f"<item jid='{managed.bare}'/>")
    until(lambda: answers(automation, f"{managed.bare}/{node}"))
    assert managed.bare not in managing(automation, hypervisor)
    assert managed.bare in managing(automation, elsewhere)


@pytest.mark.parametrize("state", ["running", "off"])
def test_a_machine_that_libvirt_has_here_is_not_given_up_on_another_s_word(
    managed, elsewhere, automation, hypervisor, log_in, state
):
    if state == "running":
        managed.virsh("start")
    automation.act(elsewhere, HYPERVISOR, "manage", f"<item jid='{managed.bare}'/>")
    peer = log_in(elsewhere.partition("@")[0])
    said = json.dumps({"uuid": managed.uuid, "active": state == "running"})
    assert json.loads(peer.act(hypervisor, "archipel:handover", "claim", said).text) == {"managed": True}
    assert managed.bare in managing(automation, hypervisor)
    assert answers(automation, managed.jid)[0].get("state") == ("1" if state == "running" else "5")
