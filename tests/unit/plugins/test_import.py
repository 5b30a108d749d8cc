# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""archipel_import: which options go together, and what it shows."""

from __future__ import annotations

import pytest
from ansible_collections.archipel.platform.plugins.modules import archipel_import

NOTHING = {
    "name": None,
    "uuid": None,
    "names": None,
    "all": False,
    "hypervisor": None,
    "hypervisors": None,
    "state": "managed",
    "offline": False,
    "upgrade_from": None,
}


@pytest.mark.parametrize(
    "given, wrong",
    [
        ({}, "give name"),
        ({"names": []}, "give name"),
        ({"offline": True}, "give name"),
        ({"all": True, "uuid": "x"}, "all: "),
        ({"upgrade_from": "/x", "all": True}, "upgrade_from: "),
        ({"upgrade_from": "/x", "name": "web"}, "upgrade_from: "),
        ({"upgrade_from": "/x", "state": "unmanaged"}, "upgrade_from: "),
        ({"upgrade_from": "/x", "hypervisor": "hv1"}, "hypervisor: "),
        ({"offline": True, "all": True, "hypervisor": "hv1"}, "hypervisor: "),
        ({"offline": True, "all": True, "hypervisors": ["hv1"]}, "hypervisors: "),
        ({"all": True, "hypervisors": []}, "hypervisors: is empty"),
    ],
)
def test_options_that_do_not_go_together_are_named(given, wrong):
    assert archipel_import.problem({**NOTHING, **given}).startswith(wrong)


@pytest.mark.parametrize(
    "given",
    [
        {"name": "web"},
        {"names": ["web"], "hypervisor": "hv1", "state": "unmanaged"},
        {"all": True},
        {"names": ["web", "db"], "hypervisors": ["hv1", "hv2"]},
        {"all": True, "offline": True, "state": "unmanaged"},
        {"upgrade_from": "/x"},
        {"upgrade_from": "/x", "offline": True},
    ],
)
def test_options_that_go_together(given):
    assert archipel_import.problem({**NOTHING, **given}) is None


def test_every_change_is_in_the_difference():
    web = {"name": "web", "uuid": "1", "jid": "1@example.org/hv1", "hypervisor": "hv1"}
    ann = {"entity": "1@example.org", "user": "ann@example.org"}
    result = {
        "imported": [web],
        "released": [],
        "cleaned": ["web"],
        "granted": [{**ann, "permission": "create"}, {**ann, "permission": "info"}],
        "taken": ["1@example.org"],
    }
    assert archipel_import.differences(result) == {
        "before": {
            "web": "unmanaged",
            "web: description": "has the password of Archipel 0.6",
            "taken over from Archipel 0.6": [],
        },
        "after": {
            "web": "managed",
            "web: description": "has no password",
            "1@example.org: ann@example.org": ["create", "info"],
            "taken over from Archipel 0.6": ["1@example.org"],
        },
    }
    unchanged = {"imported": [], "released": [], "cleaned": [], "granted": [], "taken": []}
    assert archipel_import.differences(unchanged) == {"before": {}, "after": {}}
    assert archipel_import.differences({"imported": [], "released": [web]}) == {
        "before": {"web": "managed"},
        "after": {"web": "unmanaged"},
    }
