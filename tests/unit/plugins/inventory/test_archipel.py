# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""From what the agents told to hosts, groups and variables; the source's file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible.errors import AnsibleParserError
from ansible.inventory.data import InventoryData
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.archipel.platform.plugins.inventory import archipel
from ansible_collections.archipel.platform.plugins.inventory.archipel import InventoryModule, hosts, reachable
from ansible_collections.archipel.platform.plugins.module_utils._connection import Options
from ansible_collections.archipel.platform.plugins.module_utils.archipel_protocol import jids
from ansible_collections.archipel.platform.plugins.module_utils.archipel_protocol.errors import ArchipelError

ROOT = Path(__file__).resolve().parents[4]
HYPERVISORS = [
    {"name": "hv1", "jid": "hv1@example.com/hv1", "online": True},
    {"name": "hv-2", "jid": "hv-2@example.com/hv-2", "online": False},
]
BOTH = ("vms", "hypervisors")


def vm(name, hypervisor="hv1", uuid=None, state="running", managed=True, persistent=True):
    return {
        "name": name,
        "uuid": uuid or f"uuid of {name} on {hypervisor}",
        "hypervisor": hypervisor,
        "state": state,
        "managed": managed,
        "persistent": persistent,
    }


def platform(vms, domain="example.com"):
    return {"domain": domain, "hypervisors": HYPERVISORS, "vms": vms}


def names(vms, kinds=("vms",), unmanaged=False):
    return [host.name for host in hosts([platform(vms)], kinds, unmanaged)]


def test_a_machine_has_its_groups_and_variables():
    (host,) = hosts([platform([vm("web", state="stopped")])], ["vms"], False)
    assert host.name == "web"
    assert host.groups == [
        "archipel_vms",
        "archipel_domain_example.com",
        "archipel_hypervisor_hv1",
        "archipel_state_stopped",
    ]
    assert host.variables == {
        "archipel_vm_name": "web",
        "archipel_vm_uuid": "uuid of web on hv1",
        "archipel_vm_domain": "example.com",
        "archipel_vm_hypervisor": "hv1",
        "archipel_vm_state": "stopped",
        "archipel_vm_managed": True,
        "archipel_vm_persistent": True,
    }


def test_a_machine_is_in_the_groups_of_its_tags():
    (host,) = hosts([platform([{**vm("web"), "tags": ["a b", "db"]}])], ["vms"], False)
    assert host.groups[4:] == ["archipel_tag_a b", "archipel_tag_db"]
    assert host.variables["archipel_vm_tags"] == ["a b", "db"]


def test_a_hypervisor_is_a_host_online_or_not():
    offline, online = hosts([platform([vm("web")])], ["hypervisors"], False)
    assert (online.name, offline.name) == ("hv1", "hv-2")
    assert offline.groups == ["archipel_hypervisors", "archipel_domain_example.com"]
    assert offline.variables == {
        "archipel_hypervisor_name": "hv-2",
        "archipel_hypervisor_jid": "hv-2@example.com/hv-2",
        "archipel_hypervisor_domain": "example.com",
        "archipel_hypervisor_online": False,
    }


@pytest.mark.parametrize(
    ("vms", "kinds", "unmanaged", "expected"),
    [
        ([], BOTH, False, ["hv-2", "hv1"]),
        ([vm("web"), vm("db")], BOTH, False, ["db", "hv-2", "hv1", "web"]),
        # What is not managed counts where it was asked for, also as a holder of a name.
        ([vm("web"), vm("web", "hv-2", managed=False)], ["vms"], False, ["web"]),
        ([vm("web"), vm("web", "hv-2", managed=False)], ["vms"], True, ["web@hv-2", "web@hv1"]),
        # A hypervisor keeps its name.
        ([vm("hv1", "hv-2")], ["vms"], False, ["hv1"]),
        ([vm("hv1", "hv-2")], BOTH, False, ["hv-2", "hv1", "hv1@hv-2"]),
    ],
)
def test_names(vms, kinds, unmanaged, expected):
    assert names(vms, kinds, unmanaged) == expected


def test_a_name_that_is_reserved_counts_as_taken():
    told = platform([vm("localhost"), vm("web"), vm("db", "hv-2")])
    found = [host.name for host in hosts([told], BOTH, False, ["localhost", "db", "db@hv-2", "hv1"])]
    assert found == ["db@hv-2@example.com", "hv-2", "hv1@example.com", "localhost@hv1", "web"]


class Session:
    """A client's: nobody is at ``silent``, an XMPP domain."""

    silent = ""

    def __init__(self, options):
        self.domain = jids.domain(options.jid)

    def __enter__(self):
        if self.domain == self.silent:
            raise ArchipelError("nobody is there")
        return self

    def __exit__(self, *dummy):
        pass


@pytest.fixture
def platforms(monkeypatch):
    """What the plugin reads of two domains, of which ``silent`` does not answer: platforms, warnings, the cache."""

    def platforms(silent, on_silent="warn"):
        options = {"on_silent": on_silent, "addresses": [], "cache": True}
        monkeypatch.setattr(InventoryModule, "get_option", lambda dummy, name: options[name])
        monkeypatch.setattr(InventoryModule, "get_cache_key", lambda dummy, text: text)
        monkeypatch.setattr(Session, "silent", silent)
        monkeypatch.setattr(archipel, "Client", Session)
        monkeypatch.setattr(archipel, "Agents", lambda client: client)
        monkeypatch.setattr(archipel, "read", lambda client, dummy: (platform([], client.domain), {}))
        plugin = InventoryModule()
        warnings = []
        plugin.display = SimpleNamespace(warning=warnings.append)
        plugin._cache = {}
        domains = [Options(f"a@{name}.example.com", "secret-1") for name in ("berlin", "paris")]
        found = plugin._platforms("path", domains, True)
        return [one["domain"] for one in found], warnings, plugin._cache

    return platforms


@pytest.mark.parametrize("silent", ["berlin.example.com", "paris.example.com"])
def test_a_domain_that_is_silent_takes_no_other_along(platforms, silent):
    both = ["berlin.example.com", "paris.example.com"]
    found, warnings, cache = platforms("")
    assert (found, warnings, len(cache)) == (both, [], 1)
    found, warnings, cache = platforms(silent)
    told = f"{silent} did not answer, so what is there is not in the inventory: nobody is there"
    # An answer that has not everything is not kept.
    assert (found, warnings, cache) == ([one for one in both if one != silent], [told], {})
    with pytest.raises(AnsibleParserError, match=told):
        platforms(silent, "fail")


CONTROLLER = ["localhost", "127.0.0.1", "::1"]
# Ansible's own, another source's, the plugin's, and of the options' making.
GROUPS = ["all", "ungrouped", "hypervisors", "archipel_vms", "archipel_tag_a_b", "large"]


def test_no_machine_takes_over_the_controller_or_a_group(monkeypatch):
    address = [{"address": "192.0.2.7", "mac": "", "source": "agent"}]
    names = [*CONTROLLER, *GROUPS, "web", "vcpus_2"]
    told = [{**vm(name), "tags": ["a b"], "addresses": address} for name in names]
    inventory = InventoryData()
    inventory.add_group("hypervisors")
    inventory.add_host("kvm1", group="hypervisors")
    options = {
        "hosts": ["vms"],
        "unmanaged": False,
        "strict": True,
        "compose": {"stated": trust_as_template("archipel_vm_name")},
        "groups": {"large": trust_as_template("true")},
        "keyed_groups": [{"key": trust_as_template("'2'"), "prefix": "vcpus"}],
    }
    monkeypatch.setattr(InventoryModule, "get_option", lambda dummy, name: options.get(name))
    plugin = InventoryModule()
    plugin.inventory, plugin.templar = inventory, Templar(DataLoader())
    plugin._populate([platform(told)])
    inventory.reconcile_inventory()
    hosts_of = {name: sorted(host.name for host in group.get_hosts()) for name, group in inventory.groups.items()}
    vms = sorted(["vcpus_2", "web", *(f"{name}@hv1" for name in [*CONTROLLER, *GROUPS])])
    assert hosts_of["archipel_vms"] == hosts_of["archipel_tag_a_b"] == hosts_of["large"] == hosts_of["vcpus_2"] == vms
    assert hosts_of["hypervisors"] == ["kvm1"] and hosts_of["all"] == sorted([*vms, "kvm1"])
    assert {name: group.vars for name, group in inventory.groups.items() if group.vars} == {}
    assert {group.name for group in inventory.groups["large"].child_groups} == set()
    assert inventory.localhost is None and inventory.get_host("localhost").vars["ansible_connection"] == "local"
    for name in vms:
        variables = inventory.get_host(name).vars
        assert variables["ansible_host"] == "192.0.2.7"
        assert variables["stated"] == variables["archipel_vm_name"] == name.partition("@")[0]


@pytest.mark.parametrize("there", [vm("web", "hv-2", "u", persistent=False), vm("web", "hv-2", "u", managed=False)])
def test_a_machine_that_moves_is_one_host_where_it_comes_from(there):
    here = vm("web", "hv1", "u")
    for vms in ([here, there], [there, here]):
        (host,) = hosts([platform(vms)], ["vms"], True)
        assert host.variables["archipel_vm_hypervisor"] == "hv1"


def test_names_over_several_domains():
    berlin = platform([vm("web"), vm("db"), vm("twin"), vm("hv1", "hv-2")], "berlin.example.com")
    paris = platform([vm("web"), vm("cache"), vm("twin", "hv-2")], "paris.example.com")
    found = hosts([berlin, paris], BOTH, False)
    assert sorted(host.name for host in found) == [
        "cache",
        "db",
        "hv-2@berlin.example.com",
        "hv-2@paris.example.com",
        "hv1",
        "hv1@berlin.example.com",
        "hv1@paris.example.com",
        "twin@hv-2",
        "twin@hv1",
        # Their hypervisors have one name, too.
        "web@hv1@berlin.example.com",
        "web@hv1@paris.example.com",
    ]
    domains = {host.name: host.variables.get("archipel_vm_domain") for host in found}
    assert domains["cache"] == "paris.example.com" and domains["hv1"] == "berlin.example.com"


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [
        ([], None),
        (["192.0.2.7", "192.0.2.8"], "192.0.2.7"),
        (["2001:db8::7", "192.0.2.7"], "192.0.2.7"),
        (["fe80::1", "169.254.3.4", "2001:db8::7"], "2001:db8::7"),
        (["fe80::1"], None),
        # It would be an option of ssh.
        (["-oProxyCommand=x", "192.0.2.7"], "192.0.2.7"),
    ],
)
def test_a_machine_is_reached_at_an_address_of_its_own(addresses, expected):
    told = [{"address": address, "mac": "", "source": "agent"} for address in addresses]
    assert reachable(told) == expected
    (host,) = hosts([platform([{**vm("web"), "addresses": told}])], ["vms"], False)
    assert host.variables.get("ansible_host") == expected
    assert host.variables["archipel_vm_addresses"] == told


ACCOUNT = "jid: a@example.com\npassword: secret-1"
SOURCES = {
    "misspelt": (f"{ACCOUNT}\nhostz: [vms]\njidd: x", "unknown options: hostz, jidd"),
    "choice": (f"{ACCOUNT}\nhosts: [vm]", "config 'hosts'"),
    "silent": (f"{ACCOUNT}\non_silent: ignore", "config 'on_silent'"),
    "source": (f"{ACCOUNT}\naddresses: [arp]", "config 'addresses'"),
    "no_jid": ("password: secret-1", "missing required arguments: jid"),
    "no_password": ("jid: a@example.com", "missing required arguments: password"),
    "domain": (
        "password: secret-1\ndomains:\n- jid: a@example.com\n- jid: b@example.org\n  portt: 1",
        "domains[1]: unknown keys: portt",
    ),
    "domain_type": (
        "domains:\n- jid: a@example.com\n  password: secret-1\n  port: many",
        "domains[0]: argument 'port' is of type str and we were unable to convert to int",
    ),
    "domain_without": ("domains:\n- jid: b@example.org", "domains[0]: missing required arguments: password"),
    "domain_text": ("domains:\n- b@example.org", "domains: each element must be a dictionary of connection options"),
    "domain_twice": (f"{ACCOUNT}\ndomains:\n- {{}}\n- server: other", "domains: example.com is there twice"),
    "domain_template": (
        "password: secret-1\ndomains:\n- jid: \"{{ 'domain' ~ word }}\"",
        "jid: 'domainbody' is not of the form user@domain",
    ),
    # Nothing was read, so nothing is known.
    "domains_silent": (
        "password: secret-1\nserver: 127.0.0.1\nport: 1\ndomains:\n- jid: a@example.com\n- jid: b@example.org",
        "127.0.0.1:1 cannot be reached",
    ),
    "jid_second": (
        "password: secret-1\nserver: 127.0.0.1\nport: 1\ndomains:\n- jid: a@example.com\n- jid: somebody.else",
        "jid: 'somebody.else' is not of the form user@domain",
    ),
    "jid": ("jid: nobody\npassword: secret-1", "jid: 'nobody' is not of the form user@domain"),
    # What the file says is a template, and what the environment says is none.
    "template": ("jid: \"{{ 'some' ~ word }}\"\npassword: secret-1", "jid: 'somebody' is not of the form user@domain"),
    "environment": ("password: secret-1", "jid: '{{ 1 + 1 }}' is not of the form user@domain"),
    "ca": (f"{ACCOUNT}\nca_file: /nonexistent", "ca_file: '/nonexistent' cannot be used"),
}


@pytest.mark.parametrize("jid", ["", "{{ 1 + 1 }}"])
def test_a_source_that_cannot_be_used_is_told_in_a_sentence(tmp_path, jid):
    """All sources in one run, without an environment but for, in the second, the JID."""
    sources = {name: case for name, case in SOURCES.items() if (name == "environment") == bool(jid)}
    for name, (text, _message) in sources.items():
        (tmp_path / f"{name}.archipel.yml").write_text(f"plugin: archipel.platform.archipel\n{text}\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ARCHIPEL_")}
    told = subprocess.run(
        [Path(sys.executable).with_name("ansible-inventory"), "--list", "-vvv", "-i", tmp_path, "-e", "word=body"],
        cwd=ROOT,
        env={**environment, **({"ARCHIPEL_JID": jid} if jid else {})},
        capture_output=True,
        text=True,
        check=False,
    )
    assert '"hostvars": {}' in told.stdout
    assert [message for _text, message in sources.values() if message not in " ".join(told.stderr.split())] == []
    assert "secret-1" not in told.stdout + told.stderr


@pytest.mark.parametrize(
    ("name", "ours"),
    [("archipel.yml", True), ("x.archipel.yaml", True), ("hosts.yml", False), ("archipel.yml.j2", False)],
)
def test_other_files_are_left_to_others(tmp_path, name, ours):
    (tmp_path / name).touch()
    assert InventoryModule().verify_file(str(tmp_path / name)) == ours
