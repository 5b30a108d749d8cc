# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Grants on the wire: who gives what to whom, what it opens, and that nobody gets more than that."""

from __future__ import annotations

import pytest
from people import CONTROL, HYPERVISOR, Failed, answers, manage, until

PERMISSIONS = "archipel:permissions"
SUBSCRIPTION = "archipel:subscription"


def grants(target: str, *names: str, value: str = "true", kind: str = "user") -> str:
    return "".join(
        f"<permission permission_type='{kind}' permission_target='{target}' permission_name='{name}'"
        f" permission_value='{value}'/>"
        for name in names
    )


def names(query) -> set[str]:
    return {element.get("name") for element in query}


def get(person, entity: str, target: str) -> set[str]:
    return names(person.act(entity, PERMISSIONS, "get", permission_type="user", permission_target=target))


@pytest.fixture
def admin(log_in):
    return log_in("admin")


def test_a_grant_opens_what_it_names_and_nothing_else(managed, admin, account, hypervisor):
    alice = account("alice")
    jid = f"alice@{alice.domain}"
    with pytest.raises(Failed, match="lacks the permission 'info'"):
        alice.act(managed.jid, CONTROL, "info")
    with pytest.raises(Failed, match="lacks the permission 'permission_getown'"):
        alice.act(managed.jid, PERMISSIONS, "getown")
    admin.act(managed.jid, PERMISSIONS, "set", grants(jid, "info", "presence"))
    assert alice.act(managed.jid, CONTROL, "info")[0].get("state") == "5"
    assert get(admin, managed.jid, jid) == {"info", "presence"}
    own = names(alice.act(managed.jid, PERMISSIONS, "getown", permission_type="user", permission_target=jid))
    assert own == {"info", "presence", "permission_getown"}
    for entity, action in ((managed.jid, "create"), (hypervisor, "rostervm")):
        namespace = CONTROL if action == "create" else "archipel:hypervisor:control"
        with pytest.raises(Failed, match="lacks the permission"):
            alice.act(entity, namespace, action)
    admin.act(managed.jid, PERMISSIONS, "set", grants(jid, "info", value="false"))
    with pytest.raises(Failed, match="lacks the permission 'info'"):
        alice.act(managed.jid, CONTROL, "info")


def test_presence_is_seen_as_long_as_it_is_granted(managed, admin, account):
    alice = account("alice")
    jid = f"alice@{alice.domain}"
    alice.stream.write(f"<presence type='subscribe' to='{managed.bare}'/>")
    alice.hears(managed.bare, "unsubscribed")
    admin.act(managed.jid, PERMISSIONS, "set", grants(jid, "presence"))
    alice.stream.write(f"<presence type='subscribe' to='{managed.bare}'/>")
    alice.hears(managed.bare, "subscribed")
    assert alice.shows(managed.jid, "Off") == "xa"
    admin.act(managed.jid, PERMISSIONS, "set", grants(jid, "presence", value="no"))
    alice.hears(managed.bare, "unsubscribed")


def test_a_subscription_brings_a_machine_into_a_roster_and_out_again(managed, admin, account):
    alice = account("alice")
    jid = f"alice@{alice.domain}"
    admin.act(managed.jid, SUBSCRIPTION, "add", jid=jid)
    asked = alice.hears(managed.bare, "subscribe")
    assert asked.findtext("{http://jabber.org/protocol/nick}nick") == managed.name
    alice.stream.write(f"<presence type='subscribed' to='{managed.bare}'/>")
    alice.stream.write(f"<presence type='subscribe' to='{managed.bare}'/>")
    alice.hears(managed.bare, "subscribed")
    assert get(admin, managed.jid, jid) == {"presence"}
    admin.act(managed.jid, SUBSCRIPTION, "remove", jid=jid)
    alice.hears(managed.bare, "unsubscribed")
    assert get(admin, managed.jid, jid) == set()


def test_who_may_grant_gets_no_further_than_they_are(managed, admin, account, hypervisor):
    mallory = account("mallory")
    jid = f"mallory@{mallory.domain}"
    rights = ("info", "permission_set", "permission_setown", "subscription_add", "permission_get")
    admin.act(managed.jid, PERMISSIONS, "set", grants(jid, *rights))
    for action in ("set", "setown"):
        for name in ("destroy", "all", "host_access", "role:any"):
            with pytest.raises(Failed, match="lacks '") as raised:
                mallory.act(managed.jid, PERMISSIONS, action, grants(jid, "info", name))
            assert (raised.value.kind, raised.value.code) == ("archipel-error-permission", -1)
    with pytest.raises(Failed, match="lacks 'presence'"):
        mallory.act(managed.jid, SUBSCRIPTION, "add", jid=jid)
    with pytest.raises(Failed, match="changes the sender's own permissions alone"):
        mallory.act(managed.jid, PERMISSIONS, "setown", grants(f"friend@{mallory.domain}", "info"))
    with pytest.raises(Failed, match="getown tells of the sender alone"):
        mallory.act(managed.jid, PERMISSIONS, "getown", permission_target=f"admin@{mallory.domain}")
    with pytest.raises(Failed, match="lacks the permission 'permission_set'"):
        mallory.act(hypervisor, PERMISSIONS, "set", grants(jid, "info"))
    assert get(mallory, managed.jid, jid) == set(rights)
    mallory.act(managed.jid, PERMISSIONS, "setown", grants(jid, "info", value="0"))
    with pytest.raises(Failed, match="lacks the permission 'info'"):
        mallory.act(managed.jid, CONTROL, "info")


@pytest.mark.parametrize(
    "content, told",
    [
        ("", "needs <permission/>"),
        (grants("alice@archipel.test", "fly"), "there is no permission 'fly' on "),
        (grants("alice@archipel.test", "rostervm"), "there is no permission 'rostervm' on "),
        (grants("alice@archipel.test", "info", value="perhaps"), "must be true or false"),
        (grants("alice", "info"), "is not the JID of an account"),
        (grants("unheard", "info", kind="group"), "there is no group 'unheard'"),
        (grants("alice@archipel.test", "info", kind="role"), "permission_type is 'role' and must be user or group"),
        (grants("alice@archipel.test", "role:unheard"), "there is no role 'unheard'"),
        (grants("alice@archipel.test", "info") + grants("alice@archipel.test", "fly"), "there is no permission 'fly'"),
    ],
)
def test_what_cannot_be_granted_is_said_and_nothing_is(managed, admin, content, told):
    with pytest.raises(Failed, match=told) as raised:
        admin.act(managed.jid, PERMISSIONS, "set", content)
    assert raised.value.code == (-42 if not content else -5)
    assert get(admin, managed.jid, "alice@archipel.test") == set()


def test_the_permissions_of_an_entity_are_listed_with_their_meaning(managed, admin, hypervisor):
    on_machine, on_hypervisor = (names(admin.act(jid, PERMISSIONS, "list")) for jid in (managed.jid, hypervisor))
    assert {"all", "host_access", "presence", "permission_set"} <= on_machine & on_hypervisor
    assert "define" in on_machine - on_hypervisor and "rostervm" in on_hypervisor - on_machine
    for element in admin.act(managed.jid, PERMISSIONS, "list"):
        assert element.get("default") == "0" and element.get("description")


def test_grants_outlive_the_agent_and_die_with_the_machine(managed, admin, automation, account, hypervisor):
    alice = account("alice")
    jid = f"alice@{alice.domain}"
    admin.act(managed.jid, PERMISSIONS, "set", grants(jid, "info"))
    managed.run("systemctl restart archipel-agent")
    until(lambda: answers(automation, managed.jid))
    assert alice.act(managed.jid, CONTROL, "info")
    automation.act(hypervisor, HYPERVISOR, "unmanage", f"<item jid='{managed.bare}'/>")
    manage(automation, hypervisor, managed)
    with pytest.raises(Failed, match="lacks the permission 'info'"):
        alice.act(managed.jid, CONTROL, "info")
