# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who may do what."""

from __future__ import annotations

import pytest

from archipel_agent.permissions import HOST_ACCESS, NAMES, PEER, Permissions

CENTRE = Permissions(
    root_admins=frozenset(["admin@example.org"]),
    grants={"robot@example.org": frozenset(["all"]), "ops@example.org": frozenset(["info", "create"])},
    peers=frozenset(["hv2@example.org"]),
)


@pytest.mark.parametrize(
    "sender, permission, permitted",
    [
        ("admin@example.org/phone", "destroy", True),
        ("admin@example.org", HOST_ACCESS, True),
        ("ADMIN@example.org/phone", "destroy", True),
        ("robot@example.org/x", "destroy", True),
        ("robot@example.org/x", HOST_ACCESS, False),
        ("ops@example.org/x", "create", True),
        ("ops@example.org/x", "destroy", False),
        ("ops@example.org.evil.org/x", "create", False),
        ("stranger@example.org/x", "info", False),
        ("example.org", "info", False),
        ("", "info", False),
        ("hv2@example.org/hv2", PEER, True),
        ("hv2@example.org/hv2", "info", False),
        ("admin@example.org/phone", PEER, False),
        ("robot@example.org/x", PEER, False),
    ],
)
def test_permits(sender, permission, permitted):
    assert CENTRE.permits(sender, permission) is permitted


def test_nobody_may_do_anything_by_default():
    assert not any(Permissions().permits("somebody@example.org/x", name) for name in (*NAMES, PEER))


def test_what_peers_may_do_cannot_be_granted():
    assert PEER not in NAMES
