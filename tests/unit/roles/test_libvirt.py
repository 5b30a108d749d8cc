# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the libvirt role writes for systems and options that the lab does not have."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from .render import ROOT, Rendered

DEBIAN_12 = {
    "os_family": "Debian",
    "distribution": "Debian",
    "distribution_release": "bookworm",
    "distribution_version": "12.9",
}
DEBIAN_13 = {**DEBIAN_12, "distribution_release": "trixie", "distribution_version": "13.1"}
UBUNTU = {**DEBIAN_12, "distribution": "Ubuntu", "distribution_release": "noble", "distribution_version": "24.04"}
ROCKY = {
    "os_family": "RedHat",
    "distribution": "Rocky",
    "distribution_version": "9.4",
    "selinux": {"status": "enabled", "mode": "enforcing"},
}
HOSTS = {
    "inventory_hostname": "hv1",
    "groups": {"hypervisors": ["hv1", "hv2", "hv3"]},
    "libvirt_peers": {"hv2": ["192.0.2.2", "2001:db8::2"], "hv3": ["192.0.2.3"]},
}


def role(facts: dict, **variables) -> Rendered:
    return Rendered("libvirt", facts, **{**HOSTS, **variables})


def files(rendered: Rendered) -> dict[str, str]:
    """Every file of libvirt's that the role writes, by name."""
    return {
        entry["name"]: rendered.template("settings.conf.j2", libvirt_settings=entry["settings"])
        for entry in rendered.value("libvirt_files")
    }


@pytest.mark.parametrize(
    ("facts", "variables", "wanted", "unwanted"),
    [
        (DEBIAN_12, {}, {"qemu-system-x86", "libvirt-daemon-system", "nftables"}, {"qemu-system-modules-spice"}),
        (DEBIAN_13, {}, {"qemu-system-modules-spice"}, {"libvirt-daemon-plugin-lockd"}),
        (DEBIAN_13, {"libvirt_lock_manager": "lockd"}, {"libvirt-daemon-plugin-lockd", "libvirt-daemon-lock"}, set()),
        (UBUNTU, {"libvirt_lock_manager": "lockd"}, {"qemu-system-modules-spice"}, {"libvirt-daemon-plugin-lockd"}),
        (DEBIAN_12, {"libvirt_drivers": ["xen"]}, {"xen-system-amd64", "libvirt-daemon-driver-xen"}, {"qemu-utils"}),
        (DEBIAN_12, {"libvirt_kerberos": True}, {"libsasl2-modules-gssapi-mit"}, set()),
        (DEBIAN_12, {"libvirt_firewall": "none"}, set(), {"nftables", "firewalld"}),
        (DEBIAN_12, {"libvirt_mounts": [{"fstype": "nfs4"}, {"fstype": "nfs"}]}, {"nfs-common"}, set()),
        (ROCKY, {}, {"libvirt", "qemu-kvm", "firewalld", "policycoreutils-python-utils"}, {"nftables"}),
        (ROCKY, {"libvirt_mounts": [{"fstype": "nfs"}, {"fstype": "xfs"}]}, {"nfs-utils"}, {"nfs-common"}),
        (ROCKY, {"libvirt_kerberos": True}, {"cyrus-sasl-gssapi"}, set()),
    ],
)
def test_packages(facts, variables, wanted, unwanted):
    packages = role(facts, **variables).value("libvirt_packages")
    assert wanted <= set(packages)
    assert not unwanted & set(packages)
    assert len(packages) == len(set(packages))


def test_debian_has_one_daemon():
    debian = role(DEBIAN_12)
    assert debian.value("libvirt_daemons") == "monolithic"
    assert set(files(debian)) == {"libvirtd.conf", "qemu.conf"}
    assert debian.value("libvirt_units") == [
        "libvirtd-tls.socket",
        "libvirtd.socket",
        "libvirtd-ro.socket",
        "libvirtd-admin.socket",
        "libvirtd.service",
    ]
    assert debian.value("libvirt_unwanted_units") == ["libvirtd-tcp.socket"]


def test_modular_daemons_are_one_a_driver_and_only_the_proxy_listens():
    rocky = role(ROCKY)
    written = files(rocky)
    daemons = {name.removesuffix(".conf") for name in written} - {"qemu"}
    assert daemons == {
        "virtqemud",
        "virtproxyd",
        *(f"virt{name}d" for name in ("interface", "network", "nodedev", "nwfilter", "secret", "storage")),
    }
    assert [name for name, text in written.items() if "tls_allowed_dn_list" in text] == ["virtproxyd.conf"]
    assert '"CN=hv1",\n  "CN=hv2",\n  "CN=hv3"\n' in written["virtproxyd.conf"]
    assert all("max_clients = 5000\n" in written[f"{daemon}.conf"] for daemon in daemons)
    units = rocky.value("libvirt_units")
    assert units[0] == "virtproxyd-tls.socket"
    assert [unit for unit in units if unit.endswith(".service")] == [
        "virtqemud.service",
        "virtnetworkd.service",
        "virtstoraged.service",
    ]
    assert {"virtqemud.socket", "virtqemud-ro.socket", "virtproxyd.socket"} < set(units)
    unwanted = rocky.value("libvirt_unwanted_units")
    assert {"libvirtd.service", "libvirtd.socket", "libvirtd-tls.socket", "virtproxyd-tcp.socket"} <= set(unwanted)
    assert not set(unwanted) & set(units)


def test_one_daemon_serves_red_hats_family_as_well():
    rocky = role(ROCKY, libvirt_daemons="monolithic")
    assert set(files(rocky)) == {"libvirtd.conf", "qemu.conf"}
    assert rocky.value("libvirt_units")[0] == "libvirtd-tls.socket"


def test_qemu_may_read_its_key_whatever_its_group_is_called():
    groups = [role(facts).value("libvirt_identities")[1]["group"] for facts in (UBUNTU, ROCKY)]
    assert groups == ["libvirt-qemu", "qemu"]


def test_xen_is_configured_with_leases():
    written = files(role(DEBIAN_12, libvirt_drivers=["xen"], libvirt_lock_manager="lockd", libvirt_lock_directory="/l"))
    assert set(written) == {"libvirtd.conf", "libxl.conf", "libxl-lockd.conf"}
    assert 'lock_manager = "lockd"\n' in written["libxl.conf"]
    assert 'file_lockspace_dir = "/l"\n' in written["libxl-lockd.conf"]
    assert role(DEBIAN_12, libvirt_drivers=["xen"]).value("libvirt_uri") == "xen:///system"


def test_modular_lxc_and_xen_have_daemons_of_their_own():
    both = role(ROCKY, libvirt_drivers=["lxc", "xen"])
    assert {"virtlxcd.conf", "virtxend.conf", "lxc.conf", "libxl.conf"} < set(files(both))
    assert "virtqemud.service" not in both.value("libvirt_units")


@pytest.mark.parametrize(("facts", "name"), [(DEBIAN_12, "libvirtd.conf"), (ROCKY, "virtproxyd.conf")])
def test_kerberos(facts, name):
    rendered = role(
        facts,
        libvirt_kerberos=True,
        libvirt_kerberos_principals=["admin@EXAMPLE.ORG"],
        libvirt_transports=["tls", "tcp"],
    )
    written = files(rendered)[name]
    assert 'auth_tls = "sasl"\n' in written
    assert 'auth_tcp = "sasl"\n' in written
    assert 'sasl_allowed_username_list = [\n  "admin@EXAMPLE.ORG"\n]' in written
    assert rendered.template("sasl.conf.j2").endswith("mech_list: gssapi\nkeytab: /etc/libvirt/krb5.tab\n")


def test_tcp_is_configured_only_where_it_is_asked_for():
    assert "auth_tcp" not in files(role(DEBIAN_12))["libvirtd.conf"]
    asked = role(DEBIAN_12, libvirt_transports=["tcp"])
    assert 'auth_tcp = "none"\n' in files(asked)["libvirtd.conf"]
    assert asked.value("libvirt_units")[0] == "libvirtd-tcp.socket"
    assert asked.value("libvirt_unwanted_units") == ["libvirtd-tls.socket"]


def test_nftables_know_both_kinds_of_addresses():
    rules = role(DEBIAN_12).template("firewall.nft.j2")
    assert "elements = { 192.0.2.2, 192.0.2.3 }" in rules
    assert "elements = { 2001:db8::2 }" in rules
    assert "tcp dport != { 16509, 16514, 49152-49215 } accept" in rules
    assert "elements" not in role(DEBIAN_12, libvirt_peers={}).template("firewall.nft.j2")


def test_firewalld_lets_in_each_address_to_each_port():
    rocky = role(ROCKY)
    task = rocky.task("firewall.yml", "Let the other hypervisors in")
    pairs = rocky.text(task["loop"])
    assert len(pairs) == 3 * 3
    rules = [rocky.text(task["ansible.posix.firewalld"]["rich_rule"], item=pair) for pair in pairs]
    assert 'rule family="ipv6" source address="2001:db8::2" port port="16514" protocol="tcp" accept' in rules
    assert 'rule family="ipv4" source address="192.0.2.3" port port="49152-49215" protocol="tcp" accept' in rules


def test_apparmor_lets_the_helper_look_below_the_storage_and_pools_beside_it():
    pools = [{"path": "/vm/drives"}, {"path": "/srv/fast"}]
    text = role(UBUNTU, libvirt_pools=pools).template("apparmor.j2")
    assert text.splitlines()[1:] == ['"/vm/" r,', '"/vm/**" r,', '"/srv/fast/" r,', '"/srv/fast/**" r,']


def test_selinux_lets_guests_use_what_is_mounted_over_the_network():
    mounts = [{"fstype": name} for name in ("nfs", "nfs4", "xfs", "fuse.sshfs")]
    rocky = role(ROCKY, libvirt_mounts=mounts)
    task = rocky.task("confine.yml", "Let guests use file systems of other hosts")
    assert rocky.text(task["loop"]) == ["virt_use_nfs", "virt_use_fusefs"]


def test_selinux_labels_each_pool_once(tmp_path):
    """The task itself, with programs that only write down how they were called."""
    semanage = tmp_path / "semanage"
    semanage.write_text(
        '#!/bin/sh\ncase "$*" in\n'
        "*--list*) echo '/vm/drives(/.*)?   all files   system_u:object_r:virt_image_t:s0' ;;\n"
        f'*) echo "$*" >> {tmp_path}/calls ;;\nesac\n'
    )
    semanage.chmod(0o755)
    (tmp_path / "play.yml").write_text(
        json.dumps(
            [
                {
                    "hosts": "localhost",
                    "connection": "local",
                    "gather_facts": False,
                    "vars": {
                        "ansible_python_interpreter": "{{ ansible_playbook_python }}",
                        "libvirt_selinux": True,
                        "libvirt_family": {"apparmor_helper": ""},
                        "libvirt_mounts": [],
                        "libvirt_wanted_pools": [
                            {"name": "default", "path": "/vm/drives"},
                            {"name": "iso", "path": "/vm/iso"},
                        ],
                    },
                    "tasks": [{"ansible.builtin.include_tasks": str(ROOT / "roles/libvirt/tasks/confine.yml")}],
                    "handlers": [{"name": "Label the storage", "ansible.builtin.debug": {}}],
                }
            ]
        )
    )
    subprocess.run(
        ["ansible-playbook", "-i", "localhost,", tmp_path / "play.yml"],
        check=True,
        capture_output=True,
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
    )
    assert (tmp_path / "calls").read_text() == "fcontext --add --type virt_content_t /vm/iso(/.*)?\n"


NETWORK = {"name": "n", "bridge": "virbr9", "address": "10.9.0.1", "netmask": "255.255.255.0"}


@pytest.mark.parametrize(
    ("network", "wanted", "unwanted"),
    [
        (NETWORK, ["<forward mode='nat'/>", "<bridge name='virbr9' stp='on' delay='0'/>"], "<dhcp>"),
        ({**NETWORK, "mode": "routed"}, ["<forward mode='route'/>"], "nat"),
        ({**NETWORK, "mode": "routed", "device": "eno1"}, ["<forward dev='eno1' mode='route'>"], "nat"),
        ({**NETWORK, "mode": "isolated"}, ["<ip address='10.9.0.1' netmask='255.255.255.0'>"], "<forward"),
        ({"name": "n", "mode": "bridge", "bridge": "br0"}, ["<forward mode='bridge'/>", "<bridge name='br0'/>"], "<ip"),
        ({"name": "n", "mode": "bridge", "device": "eno1"}, ["<interface dev='eno1'/>"], "<bridge"),
        (
            {**NETWORK, "dhcp_start": "10.9.0.2", "dhcp_end": "10.9.0.9"},
            ["<range start='10.9.0.2' end='10.9.0.9'/>"],
            "<uuid>",
        ),
    ],
)
def test_networks(network, wanted, unwanted):
    xml = role(DEBIAN_12).template("network.xml.j2", libvirt_network=network, libvirt_network_identity={})
    assert [text for text in wanted if text not in xml] == []
    assert unwanted not in xml
