# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What people have of the server: a roster, rooms; and what nobody else has of it."""

from __future__ import annotations

import uuid
from xml.sax.saxutils import escape

import pytest
from xmpp_stream import CLIENT, Refused

ROSTER = "{jabber:iq:roster}item"
MUC = "http://jabber.org/protocol/muc"


@pytest.fixture
def room(platform):
    return f"{uuid.uuid4()}@conference.{platform.domain}"


def enter(stream, room: str, nick: str) -> list[str]:
    """Enters a room and returns the status codes with which it shows this occupant. Raises Refused."""
    stream.write(f"<presence to='{room}/{nick}'><x xmlns='{MUC}'/></presence>")
    while True:
        stanza = stream.read()
        if stanza.tag == CLIENT + "presence" and stanza.get("from") == f"{room}/{nick}":
            break
    if stanza.get("type") == "error":
        raise Refused([child.tag.partition("}")[2] for child in stanza.find(CLIENT + "error")][0])
    return [status.get("code") for status in stanza.iter(f"{{{MUC}#user}}status")]


def hears(stream, room: str) -> tuple[str, str]:
    """Who says what next in a room; its subject and a room's own words left aside."""
    while True:
        stanza = stream.read()
        body = stanza.findtext(CLIENT + "body")
        if stanza.tag == CLIENT + "message" and body and "/" in stanza.get("from"):
            return stanza.get("from").removeprefix(room + "/"), body


def test_people_talk_in_a_room(platform, room):
    said = "drain hv1 < tonight"
    with platform.stream() as alice, platform.stream() as bob:
        alice.login("alice", platform.password("alice"))
        bob.login("bob", platform.password("bob"))
        assert "201" in enter(alice, room, "alice")  # it is new, and hers
        alice.ask("set", f"<query xmlns='{MUC}#owner'><x xmlns='jabber:x:data' type='submit'/></query>", room)
        assert "201" not in enter(bob, room, "bob")
        alice.write(f"<message type='groupchat' to='{room}'><body>{escape(said)}</body></message>")
        assert hears(bob, room) == ("alice", said)
        assert hears(alice, room) == ("alice", said)


@pytest.mark.parametrize("name", ["hv1", "automation"])
def test_no_program_creates_or_enters_a_room(platform, room, name):
    with platform.stream() as owner, platform.stream() as stream:
        stream.login(name, platform.password(name))
        with pytest.raises(Refused):
            enter(stream, room, name)
        enter(owner.login("alice", platform.password("alice")), room, "alice")
        with pytest.raises(Refused):
            enter(stream, room, name)


def test_a_machine_creates_no_room(platform, room, machine):
    with platform.stream() as stream:
        stream.login(*machine)
        with pytest.raises(Refused):
            enter(stream, room, "machine")


def test_people_see_each_other_and_the_hypervisors(platform):
    with platform.stream() as stream:
        roster = stream.login("alice", platform.password("alice")).ask("get", "<query xmlns='jabber:iq:roster'/>")
    items = {item.get("jid"): item.findtext("{jabber:iq:roster}group") for item in roster.iter(ROSTER)}
    groups = {(jid.partition("@")[0], group) for jid, group in items.items()}
    assert groups == {("bob", "people"), ("hv1", "hypervisors"), ("hv2", "hypervisors")}


def test_a_given_password_is_the_accounts_a_missing_one_is_generated_on_the_server(platform):
    assert platform.password("alice") == "from-the-vault"
    assert len(platform.password("bob")) == 32
    assert (
        platform.run(platform.xmpp, "stat -c '%a %U' /etc/archipel/secrets/bob /etc/archipel/ca/ca.key").split()
        == [
            "600",
            "root",
        ]
        * 2
    )


def test_a_person_registers_nothing_and_changes_no_password(platform):
    with platform.stream_from(platform.hypervisors[0]) as stream:
        stream.login("alice", platform.password("alice"))
        for wanted in ("carol", str(uuid.uuid4()), "bob"):
            with pytest.raises(Refused, match="forbidden"):
                stream.register(wanted, "password")
