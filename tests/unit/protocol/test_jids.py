# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Addresses follow from names alone, and always the same ones."""

from __future__ import annotations

import pytest

from archipel_protocol import jids, pubsub

UUID = "6c4ed12a-3547-5239-b020-5462cf543426"


def test_parts():
    assert jids.bare("HV1@Example.org/Hv1") == "hv1@example.org"
    assert jids.node("hv1@example.org/x@y") == "hv1"
    assert jids.node("example.org") == ""
    assert jids.domain("hv1@example.org/x") == "example.org"
    assert jids.resource("hv1@example.org/a/b") == "a/b"


def test_entities():
    assert jids.hypervisor_jid("hv1", "example.org") == "hv1@example.org/hv1"
    assert jids.vm_jid(UUID, "example.org") == UUID + "@example.org"
    assert jids.vm_jid(UUID, "example.org", "hv1") == UUID + "@example.org/hv1"
    assert pubsub.events(jids.vm_jid(UUID, "example.org", "hv1")) == f"/archipel/{UUID}@example.org/events"


def test_a_declaration_is_always_the_same_machine():
    assert jids.vm_uuid("web", "archipel.test") == UUID
    assert jids.vm_uuid("web", "example.org") != UUID
    assert jids.vm_mac(UUID, 0) == "52:54:00:cb:98:af"
    assert jids.vm_mac(UUID, 1) != jids.vm_mac(UUID, 0)


@pytest.mark.parametrize(
    ("text", "uuid", "hypervisor"),
    [
        (UUID, True, False),
        (UUID.upper(), False, False),
        (UUID.replace("-", ""), False, True),
        (UUID + "\n", False, False),
        ("hv1", False, True),
        ("hv-1", False, True),
        ("-hv", False, False),
        ("hv.1", False, False),
        ("", False, False),
        ("hv1\n", False, False),
    ],
)
def test_names(text, uuid, hypervisor):
    assert jids.is_uuid(text) is uuid
    assert jids.is_hypervisor_node(text) is hypervisor
