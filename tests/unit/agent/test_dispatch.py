# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""From a request to its handler: XML in, XML out."""

from __future__ import annotations

import asyncio
from xml.etree import ElementTree as ET

import pytest

from archipel_agent import dispatch
from archipel_agent.permissions import Permissions
from archipel_protocol import errors

PERMISSIONS = Permissions()
PERMISSIONS.grant("ops@example.org", "11111111-2222-4333-8444-555555555555@example.org", ["info"])
OPS = "ops@example.org/phone"


class Machine:
    """As much of an entity as dispatch looks at."""

    kind = "vm"
    jid = "11111111-2222-4333-8444-555555555555@example.org/hv1"


@pytest.fixture(autouse=True)
def declared(monkeypatch):
    """A namespace of our own, instead of the agent's."""
    monkeypatch.setattr(dispatch, "_HANDLERS", {})
    seen = []

    @dispatch.handler("archipel:test", "children", "info", on="vm")
    async def children(entity, request):
        seen.append(request)
        return [ET.Element("{archipel:test}answer", {"to": request.attributes["about"]})]

    @dispatch.handler("archipel:test", "text", "info", on="vm")
    async def text(entity, request):
        return request.text.upper()

    @dispatch.handler("archipel:test", "nothing", "info", on="vm")
    async def nothing(entity, request):
        return None

    @dispatch.handler("archipel:test", "forbidden", "destroy", on="vm")
    async def forbidden(entity, request):
        raise AssertionError("it was called")

    @dispatch.handler("archipel:test", "broken", "info", on="vm", code=-1009)
    async def broken(entity, request):
        raise KeyError("password=hidden")

    @dispatch.handler("archipel:test", "refused", "info", on="vm")
    async def refused(entity, request):
        raise errors.LibvirtError("no such domain", 42)

    @dispatch.handler("archipel:test", "elsewhere", "info", on="hypervisor")
    async def elsewhere(entity, request):
        raise AssertionError("it was called")

    return seen


def answer(xml, sender=OPS):
    return asyncio.run(dispatch.answer(Machine(), PERMISSIONS, sender, ET.fromstring(xml)))


@pytest.mark.parametrize(
    "request_, reply",
    [
        (
            "<query xmlns='archipel:test'><archipel action='children' about='it'/></query>",
            "<query xmlns='archipel:test'><answer to='it'/></query>",
        ),
        (
            "<query xmlns='archipel:test'><archipel xmlns='' action='children' about='it'/></query>",
            "<query xmlns='archipel:test'><answer to='it'/></query>",
        ),
        (
            "<query xmlns='archipel:test'><archipel action='text'>loud</archipel></query>",
            "<query xmlns='archipel:test'>LOUD</query>",
        ),
        ("<query xmlns='archipel:test'><archipel action='nothing'/></query>", "<query xmlns='archipel:test'/>"),
    ],
)
def test_answers(request_, reply):
    assert ET.canonicalize(ET.tostring(answer(request_))) == ET.canonicalize(ET.tostring(ET.fromstring(reply)))


@pytest.mark.parametrize("action", ["unheard-of", "elsewhere"])
def test_an_unknown_action(action):
    with pytest.raises(dispatch.UnknownAction):
        answer(f"<query xmlns='archipel:test'><archipel action='{action}'/></query>")


@pytest.mark.parametrize("xml", ["<query xmlns='archipel:test'/>", "<query xmlns='archipel:test'><archipel/></query>"])
def test_what_is_no_request(xml):
    with pytest.raises(errors.MalformedRequest):
        answer(xml)


@pytest.mark.parametrize("sender", [OPS, "stranger@example.org/x", "example.org", ""])
def test_without_the_permission_nothing_is_called(sender):
    with pytest.raises(errors.PermissionDenied, match="lacks the permission 'destroy'") as raised:
        answer("<query xmlns='archipel:test'><archipel action='forbidden'/></query>", sender)
    assert raised.value.code == errors.CODE_PERMISSION


def test_an_unforeseen_failure_has_the_actions_code_and_tells_nothing():
    with pytest.raises(errors.ArchipelError) as raised:
        answer("<query xmlns='archipel:test'><archipel action='broken'/></query>")
    assert raised.value.code == -1009
    assert "hidden" not in raised.value.message


def test_libvirts_errors_pass():
    with pytest.raises(errors.LibvirtError) as raised:
        answer("<query xmlns='archipel:test'><archipel action='refused'/></query>")
    assert (raised.value.message, raised.value.code) == ("no such domain", 42)


def test_a_request_knows_its_sender_and_children(declared):
    answer("<query xmlns='archipel:test'><archipel action='children' about='x'><item n='1'/><item/></archipel></query>")
    request = declared[0]
    assert request.sender == OPS
    assert [item.get("n") for item in request.children("item")] == ["1", None]
    assert request.child("item").get("n") == "1" and request.child("domain") is None
    assert request.entity == "11111111-2222-4333-8444-555555555555@example.org"
    assert request.permits("info") and not request.permits("host_access")
    assert not request.permits("info", "hv1@example.org")


def test_what_a_sender_may_use():
    def names(sender):
        return {one.action for one in dispatch.allowed(Machine(), PERMISSIONS, sender)}

    assert names(OPS) == {"children", "text", "nothing", "broken", "refused"}
    assert names("stranger@example.org/x") == set()


def test_a_chat_word_meets_the_same_check():
    def perform(action, sender):
        element = ET.Element("archipel")
        element.text = "loud"
        return asyncio.run(dispatch.perform(Machine(), PERMISSIONS, sender, "archipel:test", action, element))

    assert perform("text", OPS) == "LOUD"
    with pytest.raises(errors.PermissionDenied):
        perform("forbidden", OPS)
    with pytest.raises(errors.PermissionDenied):
        perform("text", "stranger@example.org/x")


def test_an_action_is_declared_once():
    with pytest.raises(ValueError, match="declared twice"):
        dispatch.handler("archipel:test", "text", "info", on="vm")(lambda entity, request: None)
