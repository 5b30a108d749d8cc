# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tags on the wire, in the definition, and their copy on the node."""

from __future__ import annotations

import pytest
from people import CONTROL, DEFINITION, DOMAIN, HYPERVISOR, SCREEN, Failed, answers, until

TAGS = "archipel:tags"
PUBSUB = "http://jabber.org/protocol/pubsub"


def copy(person) -> dict[str, str]:
    """Tags by item of the node."""
    query = f"<pubsub xmlns='{PUBSUB}'><items node='/archipel/tags'/></pubsub>"
    answer = person.stream.ask("get", query, f"pubsub.{person.domain}")
    items = answer.iter(f"{{{PUBSUB}}}item")
    found = {item.get("id"): (item[0].get("jid"), item[0].get("tags")) for item in items if len(item)}
    assert all(jid == name.partition("/")[0] for name, (jid, dummy) in found.items())
    return {name: tags for name, (dummy, tags) in found.items()}


@pytest.mark.parametrize("state", ["off", "running"])
def test_tags_are_in_the_definition_and_on_the_node(managed, automation, state):
    if state == "running":
        automation.act(managed.jid, CONTROL, "create")
    automation.act(managed.jid, TAGS, "settags", tags="web;;größer als <;;web")
    for flag in ("--inactive", "") if state == "running" else ("",):
        assert "<archipel:tag>web</archipel:tag>" in managed.virsh(f"dumpxml {flag}")
    until(lambda: copy(automation).get(managed.jid) == "größer als <;;web")
    managed.virsh("metadata --uri archipel:tags --key archipel --set '<tags><tag>virsh</tag></tags>' --config")
    if state == "off":
        until(lambda: copy(automation).get(managed.jid) == "virsh")
    automation.act(managed.jid, TAGS, "settags", tags="")
    automation.act(managed.jid, TAGS, "settags", tags="")
    assert "archipel:tag" not in managed.virsh("dumpxml")
    until(lambda: managed.jid not in copy(automation))


def test_what_is_no_tag(managed, automation):
    before = managed.virsh("dumpxml")
    for wrong in ("a;b", "a\tb", "x" * 65, ";;".join(map(str, range(65)))):
        with pytest.raises(Failed, match="tag"):
            automation.act(managed.jid, TAGS, "settags", tags=wrong)
    assert managed.virsh("dumpxml") == before


def test_a_definition_without_tags_keeps_them(managed, automation):
    automation.act(managed.jid, TAGS, "settags", tags="kept")
    xml = DOMAIN.format(name=managed.name, uuid=managed.uuid, devices=SCREEN.format(""))
    automation.act(managed.jid, DEFINITION, "define", xml)
    assert "<archipel:tag>kept</archipel:tag>" in managed.virsh("dumpxml")


def test_the_copy_follows_the_machine(platform, managed, automation, hypervisor):
    automation.act(managed.jid, TAGS, "settags", tags="moving")
    until(lambda: managed.jid in copy(automation))
    target = platform.hypervisors[1]
    there = f"{managed.bare}/{target}"
    automation.act(managed.jid, CONTROL, "migrate", hypervisorjid=f"{target}@{platform.domain}/{target}")
    until(lambda: (managed.jid in (found := copy(automation)), found.get(there)) == (False, "moving"))
    automation.act(there, CONTROL, "migrate", hypervisorjid=hypervisor)
    until(lambda: (there in (found := copy(automation)), found.get(managed.jid)) == (False, "moving"))
    automation.act(hypervisor, HYPERVISOR, "unmanage", f"<item jid='{managed.bare}'/>")
    until(lambda: managed.jid not in copy(automation))


def test_a_killed_agent_mends_the_copy(managed, automation):
    automation.act(managed.jid, TAGS, "settags", tags="before")
    until(lambda: copy(automation).get(managed.jid) == "before")
    managed.run("systemctl stop archipel-agent")
    managed.virsh("metadata --uri archipel:tags --key archipel --set '<tags><tag>after</tag></tags>' --config")
    managed.run("systemctl start archipel-agent")
    until(lambda: answers(automation, managed.jid))
    until(lambda: copy(automation).get(managed.jid) == "after")


def test_tags_of_a_hypervisor(automation, hypervisor):
    automation.act(hypervisor, TAGS, "settags", tags="rack-1")
    until(lambda: copy(automation).get(hypervisor) == "rack-1")
    automation.act(hypervisor, TAGS, "settags", tags="")
    until(lambda: hypervisor not in copy(automation))


def test_nobody_tags_without_the_permission(managed, account):
    with pytest.raises(Failed, match="lacks the permission 'settags'"):
        account("stranger").act(managed.jid, TAGS, "settags", tags="mine")
