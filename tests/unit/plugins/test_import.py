# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""archipel_import: which options go together, and what it shows."""

from __future__ import annotations

import types

import pytest
from ansible_collections.archipel.platform.plugins.module_utils._agents import Agents, Inventory, chosen
from ansible_collections.archipel.platform.plugins.module_utils._errors import AgentOffline, Conflict
from ansible_collections.archipel.platform.plugins.module_utils.archipel_protocol import payloads
from ansible_collections.archipel.platform.plugins.module_utils.archipel_protocol.errors import ArchipelError
from ansible_collections.archipel.platform.plugins.modules import archipel_import

from .stand_in import Client

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


WEB = "6f1d2f0e-0d0b-4c53-9a4f-0b7f8f7a3c1"


class Ended(Exception):
    """What a module ends with."""


class Platform(Client):
    """hv1 and hv2 with a domain each, beside a machine of hv1's agent that is undefined; ``refusing`` refuse to act."""

    def __init__(self, managed, refusing=()):
        super().__init__(self._inventory)
        self.managed, self.refusing, self.done = managed, refusing, []

    def __enter__(self):
        return self

    def __exit__(self, *dummy):
        pass

    def _inventory(self, node, action, request):
        vm = {"name": f"web-{node}", "uuid": WEB + node[-1], "hypervisor": node, "managed": self.managed}
        return {"vms": [vm], "undefined": {WEB + "9": "old"} if node == "hv1" else {}}

    def _reply(self, request):
        namespace, action, dummy = payloads.parse_request(request.payload)
        if action == "inventory":
            return super()._reply(request)
        node = request.to.partition("@")[0]
        if node in self.refusing:
            return ArchipelError(f"{node} is full")
        self.done.append((node, action))
        return payloads.reply(namespace)

    def run(self, monkeypatch, **params):
        """(msg or None, the result) of the module."""
        connection = {"jid": "a@example.org", "password": "x"}
        given = {**NOTHING, **connection, "upgrade_machines_folder": "", "upgrade_change_domain": False, **params}

        def end(msg=None, **result):
            raise Ended(msg, result)

        module = types.SimpleNamespace(params=given, check_mode=False, exit_json=end, fail_json=end, warn=print)
        monkeypatch.setattr(archipel_import, "AnsibleModule", lambda **dummy: module)
        monkeypatch.setattr(archipel_import, "Client", lambda dummy: self)
        monkeypatch.setattr(archipel_import._connection, "options", lambda dummy: None)
        with pytest.raises(Ended) as caught:
            archipel_import.main()
        return caught.value.args


@pytest.mark.parametrize("refusing, message", [(["hv2"], "hv2 is full"), (["hv1", "hv2"], "hv1 is full; hv2 is full")])
def test_where_a_hypervisor_fails_what_the_others_did_is_told(monkeypatch, refusing, message):
    said, result = Platform(False, refusing).run(monkeypatch, all=True)
    done = [node for node in ("hv1", "hv2") if node not in refusing]
    assert said == message
    assert [vm["hypervisor"] for vm in result["imported"]] == done
    assert result["changed"] == bool(done)
    assert result["diff"]["after"] == {f"web-{node}": "managed" for node in done}


@pytest.mark.parametrize(
    "meant, released",
    [
        ({"name": "old"}, ["old"]),
        ({"uuid": WEB + "9"}, ["old"]),
        ({"all": True}, ["web-hv1", "web-hv2", "old"]),
        ({"name": "none"}, []),
    ],
)
def test_what_is_released_need_not_be_defined(monkeypatch, meant, released):
    platform = Platform(True)
    said, result = platform.run(monkeypatch, state="unmanaged", **meant)
    assert said is None
    assert [vm["name"] for vm in result["released"]] == released
    assert platform.done == [(node, "unmanage") for node in {vm["hypervisor"]: None for vm in result["released"]}]


def test_what_is_managed_must_be_defined():
    inventory = Agents(Platform(False)).inventory(["old"])
    with pytest.raises(Conflict, match="name: no hypervisor that was asked has a domain 'old'"):
        chosen(inventory, ["old"], [])


def test_all_silent_hypervisors_are_named_where_all_domains_are_meant():
    silent = {node: AgentOffline(f"{node} is offline") for node in ("hv2", "hv1")}
    with pytest.raises(AgentOffline, match="^hv1 is offline; hv2 is offline$"):
        chosen(Inventory([], silent, []), [], [])
