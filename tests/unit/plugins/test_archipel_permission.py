# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""From the module's options to the wire, and from the answers to a result."""

from __future__ import annotations

import pytest
from ansible_collections.archipel.platform.plugins.module_utils._errors import AgentOffline, InvalidSpec
from ansible_collections.archipel.platform.plugins.modules import archipel_permission as module

GRANT = {"user": None, "group": None, "entities": ["all"], "permissions": [], "roles": [], "state": "present"}


def params(**options):
    return {"jid": "admin@example.org", "roles": [], "groups": [], "grants": [], "purge": [], **options}


def test_accounts_without_a_domain_are_of_ones_own():
    declared = module.declaration(
        params(
            roles=[{"name": "operator", "permissions": ["info", "create", "info"], "state": "present"}],
            groups=[
                {"name": "ops", "members": ["Bob", "alice@elsewhere.org"], "state": "present"},
                {"name": "old", "members": [], "state": "absent"},
            ],
            grants=[
                {**GRANT, "user": "alice", "entities": ["web1", "hv1", "web1"], "permissions": ["info"]},
                {**GRANT, "group": "ops", "permissions": ["presence"], "roles": ["operator"]},
                {**GRANT, "user": "bob@example.org", "state": "absent"},
            ],
            purge=["roles"],
        )
    )
    assert declared == {
        "roles": {"operator": ["create", "info"]},
        "groups": {"ops": ["alice@elsewhere.org", "bob@example.org"], "old": None},
        "grants": [
            {"subject": "alice@example.org", "entities": ["hv1", "web1"], "names": ["info"]},
            {"subject": "group:ops", "entities": ["all"], "names": ["presence", "role:operator"]},
            {"subject": "bob@example.org", "entities": ["all"], "names": []},
        ],
        "purge": ["roles"],
    }


def test_all_that_is_wrong_is_said_at_once():
    with pytest.raises(InvalidSpec) as raised:
        module.declaration(
            params(
                roles=[{"name": "r", "permissions": ["fly", "swim"], "state": "present"}],
                grants=[{**GRANT, "user": "group:ops", "permissions": ["info"]}, {**GRANT, "user": "a", "group": "b"}],
            )
        )
    assert raised.value.problems == [
        "roles: r: there is no permission 'fly'",
        "roles: r: there is no permission 'swim'",
        "grants[0].user: 'group:ops' is neither a localpart nor the JID of an account",
        "grants[1]: give either user or group",
        "grants[1]: give permissions or roles, or state absent",
    ]


def answer(before=None, after=None, unknown=()):
    return {"before": before or {}, "after": after or {}, "unknown": list(unknown)}


@pytest.mark.parametrize(
    "answers, told",
    [
        ({"hv1": answer(unknown=["web1"]), "hv2": answer()}, []),
        (
            {"hv1": answer(unknown=["web1", "tag:a", "hv2"]), "hv2": answer(unknown=["web1", "tag:a"])},
            ["entities: there is no hypervisor or managed virtual machine 'web1'"],
        ),
        (
            {"hv1": answer(unknown=["web1"]), "hv2": AgentOffline("offline"), "hv3": AgentOffline("offline")},
            [
                "hv2, hv3: offline",
                "entities: there is no hypervisor or managed virtual machine 'web1' on a hypervisor that answered",
            ],
        ),
        ({"hv1": AgentOffline("offline")}, ["hv1: offline"]),
    ],
)
def test_what_failed_is_said_once(answers, told):
    assert module.failures(answers) == told


def test_the_difference_is_told_by_hypervisor():
    changed = answer({"roles": {"r": ["info"]}}, {})
    told = module.result({"hv1": answer(), "hv2": changed, "hv3": AgentOffline("offline")})
    assert told == {
        "changed": True,
        "hypervisors": [
            {"hypervisor": "hv1", "changed": False},
            {"hypervisor": "hv2", "changed": True},
            {"hypervisor": "hv3", "changed": False, "error": "offline"},
        ],
        "diff": {"before": {"hv2": {"roles": {"r": ["info"]}}}, "after": {"hv2": {}}},
    }
