# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The decision about one machine: which hypervisor, and whether at all."""

from __future__ import annotations

import pytest
from ansible_collections.archipel.platform.plugins.module_utils._decision import Decision, decide
from ansible_collections.archipel.platform.plugins.module_utils._errors import (
    AgentOffline,
    Conflict,
    HypervisorUnknown,
    InvalidSpec,
)
from ansible_collections.archipel.platform.plugins.module_utils.archipel_protocol import jids

from .specs import DOMAIN, spec

WEB = jids.vm_uuid("web", DOMAIN)
OTHER = "11111111-2222-4333-8444-555555555555"
BOTH = ("hv1", "hv2")
SILENT = {"hv2": "the agent of hv2 is offline"}


def vm(hypervisor, name="web", uuid=WEB, managed=True, state="running"):
    return {"name": name, "uuid": uuid, "hypervisor": hypervisor, "managed": managed, "state": state}


@pytest.mark.parametrize(
    ("options", "vms", "known", "silent", "decision"),
    [
        # A new one: where it is declared, or where there is only one place.
        ({"hypervisor": "hv2", "memory": "1GiB"}, [], BOTH, {}, ("hv2", None)),
        ({"memory": "1GiB"}, [], ("hv1",), {}, ("hv1", None)),
        ({"xml": "<domain/>"}, [], ("hv1",), {}, ("hv1", None)),
        # An existing one: where it is.
        ({}, [vm("hv2")], BOTH, {}, ("hv2", None)),
        ({"hypervisor": "hv2"}, [vm("hv2")], BOTH, {}, ("hv2", None)),
        ({"state": "absent"}, [vm("hv2")], BOTH, {}, ("hv2", None)),
        ({}, [vm("hv1")], BOTH, SILENT, ("hv1", None)),
        ({"uuid": WEB.upper()}, [vm("hv1")], BOTH, {}, ("hv1", None)),
        # Elsewhere than declared: it moves.
        ({"hypervisor": "hv1"}, [vm("hv2")], BOTH, {}, ("hv2", "hv1")),
        ({"hypervisor": "hv1", "state": "stopped"}, [vm("hv2")], BOTH, {}, ("hv2", "hv1")),
        # What is to be gone does not move first, and is gone already if it is nowhere.
        ({"hypervisor": "hv1", "state": "absent"}, [vm("hv2")], BOTH, {}, ("hv2", None)),
        ({"state": "absent"}, [], BOTH, {}, (None, None)),
    ],
)
def test_decisions(options, vms, known, silent, decision):
    host, target = decision
    expected = Decision("web", WEB, host, vms[0] if vms else None, target)
    assert decide(spec(name="web", **options), vms, known, silent, DOMAIN) == expected


def test_a_uuid_alone_finds_its_machine():
    found = vm("hv1", name="db", uuid=OTHER)
    assert decide(spec(uuid=OTHER), [found], BOTH, {}, DOMAIN) == Decision("db", OTHER, "hv1", found)


@pytest.mark.parametrize(
    ("options", "vms", "silent", "kind", "message"),
    [
        (
            {"name": "web", "hypervisor": "hv9"},
            [],
            {},
            HypervisorUnknown,
            "hypervisor: 'hv9' is not a hypervisor of this platform; there are hv1, hv2",
        ),
        (
            {"name": "web"},
            [vm("hv2"), vm("hv1")],
            {},
            Conflict,
            f"'web' exists more than once: {WEB} on hv1 and {WEB} on hv2; remove or rename all but one",
        ),
        (
            {"name": "web"},
            [vm("hv1", managed=False)],
            {},
            Conflict,
            "'web' is used by a domain on hv1 that is not managed; archipel_import brings it under management",
        ),
        (
            {"name": "web", "uuid": WEB},
            [vm("hv1", uuid=OTHER)],
            {},
            Conflict,
            f"name: 'web' is already that of {OTHER} on hv1",
        ),
        (
            {"name": "web"},
            [vm("hv2", name="renamed")],
            {},
            Conflict,
            f"'web' cannot have the UUID {WEB}, which is that of 'renamed' on hv2; a virtual machine is not renamed",
        ),
        (
            {"name": "web", "hypervisor": "hv1", "memory": "1GiB"},
            [],
            SILENT,
            AgentOffline,
            "'web' was found nowhere, but may be on hv2, so nothing is done: the agent of hv2 is offline",
        ),
        (
            {"name": "web", "state": "absent"},
            [],
            SILENT,
            AgentOffline,
            "'web' was found nowhere, but may be on hv2, so nothing is done: the agent of hv2 is offline",
        ),
        (
            {"name": "web", "hypervisor": "hv2"},
            [vm("hv1")],
            SILENT,
            AgentOffline,
            "'web' is on hv1 and cannot move to hv2: the agent of hv2 is offline",
        ),
        (
            {"name": "web", "memory": "1GiB"},
            [],
            {},
            InvalidSpec,
            "hypervisor: 'web' is new, so say where: hv1, hv2",
        ),
        (
            {"name": "web", "hypervisor": "hv1"},
            [],
            {},
            InvalidSpec,
            "memory: 'web' is new, so say how much, such as 2GiB",
        ),
        (
            {"uuid": OTHER},
            [],
            {},
            Conflict,
            f"uuid: {OTHER} was found on no hypervisor, and a new virtual machine needs a name",
        ),
    ],
)
def test_what_cannot_be_or_must_not(options, vms, silent, kind, message):
    with pytest.raises(kind) as caught:
        decide(spec(**options), vms, BOTH, silent, DOMAIN)
    assert caught.value.message == message
