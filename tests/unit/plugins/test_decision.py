# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The decision about one machine: which hypervisor, and whether at all."""

from __future__ import annotations

import pytest
from ansible_collections.archipel.platform.plugins.module_utils._agents import Inventory
from ansible_collections.archipel.platform.plugins.module_utils._decision import Decision, Fleet, decide, decisions
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
        # What an interrupted migration has not moved yet goes on.
        ({"hypervisor": "hv2"}, [vm("hv1"), vm("hv2", managed=False, state="paused")], BOTH, {}, ("hv1", "hv2")),
        ({"uuid": WEB}, [vm("hv1"), vm("hv2", managed=False, state="paused")], BOTH, {}, ("hv1", None)),
        # What is lost is not waited for; what answers is asked all the same.
        ({"hypervisor": "hv1", "memory": "1GiB", "assume_lost": ["hv2"]}, [], BOTH, SILENT, ("hv1", None)),
        ({"hypervisor": "hv1", "memory": "1GiB", "assume_lost": ["hv2"]}, [], BOTH, {}, ("hv1", None)),
        ({"hypervisor": "hv1", "assume_lost": ["hv2"]}, [vm("hv2")], BOTH, {}, ("hv2", "hv1")),
        ({"state": "absent", "assume_lost": ["hv2"]}, [], BOTH, SILENT, (None, None)),
        # What is to be gone does not move first, and is gone already if it is nowhere.
        ({"hypervisor": "hv1", "state": "absent"}, [vm("hv2")], BOTH, {}, ("hv2", None)),
        ({"state": "absent"}, [], BOTH, {}, (None, None)),
    ],
)
def test_decisions(options, vms, known, silent, decision):
    host, target = decision
    expected = Decision("web", WEB, host, vms[0] if vms else None, target)
    assert decide(spec(name="web", **options), Fleet(vms, known, DOMAIN, silent)) == expected


def test_a_uuid_alone_finds_its_machine():
    found = vm("hv1", name="db", uuid=OTHER)
    assert decide(spec(uuid=OTHER), Fleet([found], BOTH, DOMAIN)) == Decision("db", OTHER, "hv1", found)


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
            "'web' was found nowhere, but may be on hv2, so nothing is done: the agent of hv2 is offline; what is "
            "lost for good is named in assume_lost",
        ),
        (
            {"name": "web", "state": "absent"},
            [],
            SILENT,
            AgentOffline,
            "'web' was found nowhere, but may be on hv2, so nothing is done: the agent of hv2 is offline; what is "
            "lost for good is named in assume_lost",
        ),
        (
            {"name": "web", "hypervisor": "hv1", "memory": "1GiB", "assume_lost": ["hv2"]},
            [],
            {**SILENT, "hv1": "no answer"},
            AgentOffline,
            "'web' was found nowhere, but may be on hv1, so nothing is done: no answer; what is lost for good is named "
            "in assume_lost",
        ),
        (
            {"name": "web", "hypervisor": "hv2", "memory": "1GiB", "assume_lost": ["hv2"]},
            [],
            SILENT,
            AgentOffline,
            "'web' cannot be made on hv2: the agent of hv2 is offline",
        ),
        (
            {"name": "web", "assume_lost": ["hv2", "hv9"]},
            [vm("hv1")],
            {},
            HypervisorUnknown,
            "assume_lost: 'hv9' is not a hypervisor of this platform; there are hv1, hv2",
        ),
        (
            {"name": "web", "state": "running"},
            [vm("hv1", uuid=OTHER, state="stopped"), vm("hv2", name="other", uuid=OTHER, managed=False)],
            {},
            Conflict,
            f"'web' exists more than once: {OTHER} on hv1 and {OTHER} on hv2; remove or rename all but one",
        ),
        (
            {"name": "web"},
            [vm("hv1", state="stopped"), vm("hv2", managed=False, state="paused")],
            {},
            Conflict,
            f"'web' exists more than once: {WEB} on hv1 and {WEB} on hv2; remove or rename all but one",
        ),
        (
            {"name": "web"},
            [vm("hv1", managed=False)],
            SILENT,
            Conflict,
            "'web' is used by a domain on hv1 that is not managed; unless it has just come from hv2, whose agent is "
            "silent, archipel_import brings it under management",
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
        decide(spec(**options), Fleet(vms, BOTH, DOMAIN, silent))
    assert caught.value.message == message


NEW = {"name": "web", "hypervisor": "hv1", "memory": "1GiB"}


def fleet(vms=(), **more):
    return Fleet(vms, BOTH, DOMAIN, **more)


def test_an_account_is_evidence_that_the_machine_exists():
    with pytest.raises(Conflict) as caught:
        decide(spec(**NEW, assume_lost=["hv2"]), fleet(registered={WEB}))
    assert caught.value.message == (
        f"'web' was found on no hypervisor, but has an account, {WEB}@{DOMAIN}, so it may be on one that the platform "
        "does not know any more, and nothing is done; if it is lost, remove the account with archipel_user"
    )
    with pytest.raises(AgentOffline, match="may be on hv2"):
        decide(spec(**NEW), fleet(silent=SILENT, registered={WEB}))


def test_the_account_of_a_machine_that_is_lost_is_told_of():
    found = decide(spec(**NEW, assume_lost=["hv2"]), fleet(silent=SILENT, registered={WEB}))
    assert found.host == "hv1"
    assert found.warning == (
        f"the account of 'web', {WEB}@{DOMAIN}, has a password that only hv2 knows; remove it with archipel_user, and "
        "the agent of hv1 makes it anew"
    )


def test_a_machine_that_was_undefined_past_its_agent_is_made_there_again():
    assert decide(spec(name="web", memory="1GiB"), fleet(holders={WEB: ["hv2"]})).host == "hv2"
    with pytest.raises(Conflict) as caught:
        decide(spec(**NEW), fleet(holders={WEB: ["hv2"]}))
    assert caught.value.message == (
        "'web' cannot be made on hv1: hv2 manages it, though it has no definition there any more; declare it on hv2, "
        "from where it can move"
    )


def test_what_was_undefined_past_its_agent_is_absent_once_the_agent_has_let_it_go():
    held = decide(spec(name="web", state="absent"), fleet(holders={WEB: ["hv2"]}))
    assert (held.host, held.existing, held.target) == ("hv2", None, None)
    assert decide(spec(name="web", state="absent"), fleet()).host is None


def test_a_machine_whose_account_is_still_on_its_way():
    with pytest.raises(Conflict) as caught:
        decide(spec(**NEW), fleet([vm("hv2", managed=False)], holders={WEB: ["hv1"]}))
    assert caught.value.message == (
        "'web' is on its way from hv1 to hv2, and its account is not there yet; try again in a minute. If it "
        "was moved without the agents, archipel_import brings it under management where it is"
    )


class Agents:
    """Two hypervisors; ``vms`` is what they have."""

    domain, known = DOMAIN, list(BOTH)

    def __init__(self, vms=(), silent=(), holders=None, accounts=()):
        self.vms, self.silent, self.holders, self.accounts = vms, dict.fromkeys(silent), holders or {}, accounts
        self.asked = []

    def inventory(self, names=None, uuids=None, hypervisors=None):
        found = [one for one in self.vms if one["name"] in (names or ()) or one["uuid"] in (uuids or ())]
        undefined = [{"uuid": uuid, "hypervisor": node} for uuid, nodes in self.holders.items() for node in nodes]
        return Inventory(found, {node: AgentOffline(f"{node} is offline") for node in self.silent}, undefined)

    def registered(self, uuids):
        self.asked += uuids
        return set(self.accounts)


def test_accounts_are_asked_for_of_what_is_to_be_made_alone():
    there = jids.vm_uuid("there", DOMAIN)
    agents = Agents([vm("hv1", name="there", uuid=there)], holders={OTHER: ["hv1"]}, accounts=[WEB])
    specs = [
        spec(**NEW),
        spec(name="there"),
        spec(name="db", uuid=OTHER, memory="1GiB"),
        spec(name="x", state="absent"),
    ]
    new, old, undefined, gone = decisions(agents, specs)
    assert agents.asked == [WEB]
    assert isinstance(new, Conflict) and (old.host, undefined.host, gone.host) == ("hv1", "hv1", None)


@pytest.mark.parametrize(("state", "conflicts"), [("running", True), ("stopped", False)])
def test_what_is_about_to_start_is_looked_for_under_other_names(state, conflicts):
    twin = vm("hv2", name="web-old", uuid=OTHER, managed=False)
    agents = Agents([vm("hv1", uuid=OTHER, state="stopped"), twin])
    (found,) = decisions(agents, [spec(name="web", state=state)])
    assert isinstance(found, Conflict) is conflicts
