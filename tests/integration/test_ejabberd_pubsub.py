# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who may create, publish and read on the pubsub service, with the platform's nodes as `site.yml` makes them."""

from __future__ import annotations

import uuid

import pytest
from xmpp_stream import Refused

PUBSUB = "http://jabber.org/protocol/pubsub"
TAGS = "/archipel/tags"


def ask(stream, kind: str, content: str, namespace: str = PUBSUB):
    return stream.ask(kind, f"<pubsub xmlns='{namespace}'>{content}</pubsub>", f"pubsub.{stream.domain}")


def publish(stream, node: str, item: str):
    return ask(stream, "set", f"<publish node='{node}'><item id='{item}'><tag xmlns='archipel:test'/></item></publish>")


def items(stream, node: str) -> list[str | None]:
    return [item.get("id") for item in ask(stream, "get", f"<items node='{node}'/>").iter(f"{{{PUBSUB}}}item")]


def test_hypervisors_publish_tags_and_everyone_reads_them(platform, machine):
    item = str(uuid.uuid4())
    with platform.stream() as hypervisor, platform.stream() as reader:
        publish(hypervisor.login("hv1", platform.password("hv1")), TAGS, item)
        assert item in items(reader.login(*machine), TAGS)
        ask(hypervisor, "set", f"<retract node='{TAGS}'><item id='{item}'/></retract>")
        assert item not in items(reader, TAGS)


@pytest.mark.parametrize("node", [TAGS, "/archipel/roles", "/archipel/adminaccounts"])
def test_a_machine_publishes_on_no_node_of_the_platform(platform, machine, node):
    with platform.stream() as stream:
        stream.login(*machine)
        with pytest.raises(Refused, match="forbidden"):
            publish(stream, node, "x")


def test_a_machine_has_a_node_of_its_own_that_no_other_writes(platform, machine):
    node = f"/archipel/{machine[0]}@{platform.domain}/events"
    with platform.stream() as owner, platform.stream() as other:
        ask(owner.login(*machine), "set", f"<create node='{node}'/>")
        publish(owner, node, "x")
        other.login("hv2", platform.password("hv2"))
        for attempt in (
            lambda: publish(other, node, "y"),
            lambda: ask(other, "set", f"<delete node='{node}'/>", PUBSUB + "#owner"),
        ):
            with pytest.raises(Refused, match="forbidden"):
                attempt()
        ask(owner, "set", f"<delete node='{node}'/>", PUBSUB + "#owner")


def test_a_person_creates_no_node(platform):
    name = f"person-{uuid.uuid4()}"
    platform.run(platform.xmpp, f"ejabberdctl register {name} {platform.domain} of-this-test")
    try:
        with platform.stream() as stream:
            stream.login(name, "of-this-test")
            with pytest.raises(Refused, match="forbidden"):
                ask(stream, "set", "<create node='/archipel/mine'/>")
    finally:
        platform.run(platform.xmpp, f"ejabberdctl unregister {name} {platform.domain}")
