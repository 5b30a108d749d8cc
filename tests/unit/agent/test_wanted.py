# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import types
import uuid as uuidlib

import pytest

from archipel_agent import wanted
from archipel_protocol.errors import MalformedRequest

WEB = {"uuid": "1ad53f2f-5b06-5d4e-9d1c-4d4f4b0a6f39", "name": "web", "state": "running"}
UUIDS = {name: f"{name * 8}-0000-4000-8000-000000000000" for name in "abcd"}
VOLUME = {"pool": "default", "name": "web.qcow2", "capacity": 1, "format": "qcow2"}


def test_what_is_not_stated():
    ((one,), facts) = wanted.machines({"vms": [WEB]})
    assert (one.uuid, one.name, one.state) == (WEB["uuid"], "web", "running")
    assert (one.domain, one.defaults, one.exact, one.volumes) == ("<domain/>", "", frozenset(), ())
    assert (one.autostart, one.force, one.wait) == (None, False, True)
    assert facts is False


def test_what_is_stated():
    stated = {
        **WEB,
        "domain": "<domain><vcpu>1</vcpu></domain>",
        "exact": ["disk"],
        "volumes": [VOLUME],
        "autostart": False,
        "tags": ["web", "db", "web"],
        "shutdown_timeout": 5,
    }
    ((one,), facts) = wanted.machines({"vms": [stated], "facts": True})
    assert (one.exact, one.volumes, one.autostart, one.shutdown_timeout) == (frozenset(["disk"]), (VOLUME,), False, 5.0)
    assert one.tags == ("db", "web")
    assert facts is True


@pytest.mark.parametrize(
    "payload, message",
    [
        ({}, "vms is missing"),
        ({"vms": {}}, "vms must be a list"),
        ({"vms": [], "more": 1}, "more is not known; facts, vms are"),
        ({"vms": [1]}, r"vms\[0\] must be an object"),
        ({"vms": [WEB, WEB]}, "is there twice"),
        ({"vms": [WEB, {**WEB, "uuid": WEB["uuid"].replace("1", "2")}]}, "vms: the name web is there twice"),
        ({"vms": [{**WEB, "memroy": "1GiB"}]}, r"vms\[0\].memroy is not known"),
        ({"vms": [{**WEB, "uuid": "WEB"}]}, r"vms\[0\].uuid is 'WEB', not a UUID"),
        ({"vms": [{**WEB, "state": "runing"}]}, r"vms\[0\].state is 'runing'; one of present, running"),
        ({"vms": [{**WEB, "name": "a/b"}]}, "cannot name a virtual machine"),
        ({"vms": [{**WEB, "name": ""}]}, "cannot name a virtual machine"),
        ({"vms": [{**WEB, "force": 1}]}, r"vms\[0\].force must be true or false"),
        ({"vms": [{**WEB, "wait_timeout": True}]}, r"vms\[0\].wait_timeout must be a number"),
        ({"vms": [{**WEB, "wait_timeout": -1}]}, "between 0 and"),
        ({"vms": [{**WEB, "wait_for": "miracle"}]}, "'miracle'; one of state, guest_agent, address is meant"),
        ({"vms": [{**WEB, "start_delay": -1}]}, "between 0 and"),
        ({"vms": [{**WEB, "exact": ["dsk"]}]}, "'dsk', which is no class of devices"),
        ({"vms": [{**WEB, "tags": ["a;b"]}]}, r"vms\[0\].tags: the tag 'a;b' must not have a ';'"),
        ({"vms": [{**WEB, "exact": [1]}]}, "must be a list of texts"),
        (
            {"vms": [{**WEB, "volumes": [{**VOLUME, "capacity": "1G"}]}]},
            r"volumes\[0\].capacity must be a whole number",
        ),
        ({"vms": [{**WEB, "volumes": [{**VOLUME, "capacity": 0}]}]}, "above 0"),
        ({"vms": [{**WEB, "volumes": [{**VOLUME, "name": "../a"}]}]}, "cannot name a volume"),
        ({"vms": [{**WEB, "volumes": [{**VOLUME, "size": 1}]}]}, r"vms\[0\].volumes\[0\].size is not known"),
    ],
)
def test_the_rest_is_refused_with_its_place(payload, message):
    with pytest.raises(MalformedRequest, match=message):
        wanted.machines(payload)


class Machine:
    name, uuid = "web", WEB["uuid"]


@pytest.mark.parametrize(
    "payload, chosen",
    [
        ({}, True),
        ({"names": ["web"]}, True),
        ({"names": ["db"]}, False),
        ({"names": ["db"], "uuids": [WEB["uuid"].upper()]}, True),
        ({"names": []}, False),
    ],
)
def test_selections(payload, chosen):
    assert (Machine() in wanted.selection(payload)) is chosen


@pytest.mark.parametrize(
    "payload, uuids, more",
    [
        ({}, "abcd", False),
        ({"max": 2}, "ab", True),
        ({"max": 2, "after": UUIDS["b"]}, "cd", False),
        ({"max": 4}, "abcd", False),
        ({"max": 9, "after": UUIDS["d"]}, "", False),
        ({"max": 1, "names": ["b", "d"]}, "b", True),
        ({"max": 1, "names": ["b", "d"], "after": UUIDS["b"]}, "d", False),
    ],
)
def test_pages_follow_the_uuids(payload, uuids, more):
    known = [types.SimpleNamespace(name=name, uuid=UUIDS[name]) for name in "dbca"]
    assert wanted.selection(payload).page(known) == ([UUIDS[name] for name in uuids], more)


@pytest.mark.parametrize(
    "payload, told",
    [
        ({"max": 0}, "max is 0, and must be at least 1"),
        ({"max": True}, "max must be a whole number"),
        ({"after": "b"}, "after is 'b', not a UUID"),
    ],
)
def test_what_is_no_page(payload, told):
    with pytest.raises(MalformedRequest, match=told):
        wanted.selection(payload)


def test_addresses_have_known_sources():
    assert wanted.selection({}).addresses == frozenset()
    assert wanted.selection({"addresses": ["lease", "agent"]}).addresses == {"agent", "lease"}
    with pytest.raises(MalformedRequest, match="addresses: 'arp' is not known; agent, lease are"):
        wanted.selection({"addresses": ["agent", "arp"]})


def test_a_selection_knows_its_keys():
    with pytest.raises(MalformedRequest, match="name is not known"):
        wanted.selection({"name": "web"})


def test_as_many_machines_as_a_stanza_holds_hold_nobody_up():
    """Each name compared with each other one would take minutes, in which the agent answers nobody."""
    machines = [{**WEB, "uuid": str(uuidlib.UUID(int=number)), "name": f"web{number}"} for number in range(40000)]
    found, dummy = wanted.machines({"vms": machines})
    assert len(found) == len(machines)


MOVE = {"uuid": WEB["uuid"], "to": "hv2"}


def test_a_move():
    assert wanted.move(MOVE) == wanted.Move(WEB["uuid"], "hv2")
    stated = {"bandwidth": 100, "timeout": 2.5, "timeout_action": "pause", "auto_converge": True, "copy_storage": True}
    found = wanted.move({**MOVE, "timeout": 30, "off": True, "migration": stated})
    assert (found.timeout, found.off, found.migration) == (30, True, wanted.Migration(**stated))


@pytest.mark.parametrize(
    "payload, message",
    [
        ({"uuid": "web", "to": "hv2"}, "uuid is 'web', not a UUID"),
        ({"uuid": WEB["uuid"]}, "to is missing"),
        ({**MOVE, "timeout": 0}, "timeout must be a number of seconds above 0"),
        ({**MOVE, "tiemout": 1}, "tiemout is not known"),
        ({**MOVE, "migration": []}, "migration must be an object"),
        ({**MOVE, "migration": {"speed": 1}}, "migration.speed is not known"),
        ({**MOVE, "migration": {"bandwidth": 1.5}}, "migration.bandwidth must be a whole number"),
        ({**MOVE, "migration": {"bandwidth": 0}}, "migration.bandwidth: 0 is not between 1 and"),
        ({**MOVE, "migration": {"auto_converge": 1}}, "migration.auto_converge must be true or false"),
        ({**MOVE, "migration": {"compression": "lzma"}}, "migration.compression is 'lzma'; one of xbzrle"),
        ({**MOVE, "migration": {"compression": "zlib"}}, "compression: zlib needs parallel_connections"),
        ({**MOVE, "migration": {"compression": "mt", "parallel_connections": 2}}, "mt works on one connection only"),
        ({**MOVE, "migration": {"timeout_action": "pause"}}, "timeout_action: pause needs timeout"),
        ({**MOVE, "migration": {"timeout": 0}}, "migration.timeout: must be more than 0 seconds"),
        (
            {**MOVE, "migration": {"timeout": 1, "timeout_action": "postcopy", "parallel_connections": 2}},
            "no post-copy over parallel connections",
        ),
    ],
)
def test_moves_that_cannot_be_meant(payload, message):
    with pytest.raises(MalformedRequest, match=message):
        wanted.move(payload)
