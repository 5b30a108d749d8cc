# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Names and addresses of the lab; the hosts themselves are tested by everything that runs on them."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from archipel_lab import topology
from archipel_lab.topology import HOSTS, Lab

LABS = [Lab(scenario, Path(checkout)) for checkout in ("/a", "/b") for scenario in ("default", "molecule")]


@pytest.mark.parametrize("what", ["id", "bridge", "subnet", "state", "lock"])
def test_checkouts_and_scenarios_do_not_meet(what):
    assert len({getattr(lab, what) for lab in LABS}) == len(LABS)


@pytest.mark.parametrize("lab", LABS, ids=lambda lab: lab.id)
def test_interfaces_have_names_that_the_kernel_takes(lab):
    """At most 15 characters; systemd-nspawn calls a host's link vb-MACHINE."""
    assert max(len(name) for name in [lab.bridge, *(f"vb-{lab.machine(host)}" for host in HOSTS)]) <= 15


@pytest.mark.parametrize("lab", LABS, ids=lambda lab: lab.id)
def test_hosts_are_in_the_subnet(lab):
    subnet = ip_network(lab.subnet)
    assert all(ip_address(address) in subnet for address in [lab.gateway, *map(lab.address, HOSTS)])


@pytest.mark.parametrize(("started", "hypervisors"), [([], ["hv1", "hv2"]), (["xmpp"], []), (["xmpp", "hv2"], ["hv2"])])
def test_inventory_has_the_started_hosts_and_no_localhost(started, hypervisors, tmp_path, monkeypatch):
    monkeypatch.setattr(topology, "STATE_ROOT", tmp_path)
    lab = Lab("default")
    for host in started:
        lab.directory(host).mkdir(parents=True)
    inventory = lab.inventory()
    assert sorted(inventory["_meta"]["hostvars"]) == sorted(started or HOSTS)
    assert inventory["hypervisors"] == {"hosts": hypervisors}
