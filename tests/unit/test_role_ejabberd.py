# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The configuration that the role ejabberd renders, on each family of operating systems."""

from __future__ import annotations

from pathlib import Path

import ansible.template
import pytest
import yaml
from ansible.parsing.dataloader import DataLoader

ROLE = Path(__file__).resolve().parents[2] / "roles/ejabberd"
FAMILIES = ["Debian", "RedHat"]  # Ubuntu is of the family Debian
# The sections of ejabberd's own example on Debian. The role has some besides, each beside what it belongs to.
EXAMPLE = """loglevel log_rotate_count hosts certfiles define_macro listen disable_sasl_mechanisms auth_password_format
acl access_rules api_permissions shaper shaper_rules modules""".split()
PUBLIC = {5222: "ejabberd_c2s", 5443: "ejabberd_http"}
LOOPBACK = {5280: "ejabberd_http", 4560: "ejabberd_http"}

# ansible-core from 2.19 on takes for a template only what is marked as one.
trusted = getattr(ansible.template, "trust_as_template", str)


def trust(value):
    if isinstance(value, dict):
        return {key: trust(item) for key, item in value.items()}
    if isinstance(value, list):
        return [trust(item) for item in value]
    return trusted(value) if isinstance(value, str) else value


def render(template: str, family: str, **variables) -> str:
    """A template of the role as a host of that family gets it."""
    known = {"ansible_managed": "Ansible", "ejabberd_domain": "example.org"}
    for name in ("defaults/main.yml", f"vars/{family}.yml", "vars/main.yml"):
        known.update(yaml.safe_load((ROLE / name).read_text()))
    templar = ansible.template.Templar(DataLoader(), variables=trust({**known, **variables}))
    return templar.template(trusted((ROLE / "templates" / template).read_text()), convert_data=False)


def configuration(family: str = "Debian", **variables) -> dict:
    return yaml.safe_load(render("ejabberd.yml.j2", family, **variables))


def listeners(rendered: dict, loopback: bool) -> dict[int, str]:
    return {item["port"]: item["module"] for item in rendered["listen"] if (item["ip"] == "127.0.0.1") is loopback}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("s2s", [False, True])
def test_the_sections_are_in_order_and_no_listener_is_too_many(family, s2s):
    rendered = configuration(family, ejabberd_s2s=s2s)
    assert [name for name in rendered if name in EXAMPLE] == EXAMPLE
    assert listeners(rendered, loopback=True) == LOOPBACK
    assert listeners(rendered, loopback=False) == {**PUBLIC, **({5269: "ejabberd_s2s_in"} if s2s else {})}


@pytest.mark.parametrize("family", FAMILIES)
def test_authority_is_by_exact_name(family):
    names = {"ejabberd_administrators": ["root"], "ejabberd_hypervisors": ["kvm1", "kvm2"]}
    acl = configuration(family, **names)["acl"]
    assert acl["admin"] == {"user": ["root@example.org"]}
    assert acl["hypervisors"] == {"user": ["kvm1@example.org", "kvm2@example.org"]}
    assert {name for name, rule in acl.items() if "user_regexp" in rule} == {"virtual_machines", "local"}


def test_no_address_and_no_pattern_may_call_the_api():
    permissions = configuration(ejabberd_hypervisors=["kvm1"], ejabberd_hypervisor_addresses=["192.0.2.1"])[
        "api_permissions"
    ]
    assert permissions.pop("console commands")["from"] == ["ejabberd_ctl"]
    assert permissions == {
        "administrators": {"who": {"access": {"allow": "admin"}}, "what": ["*", "!stop", "!start"]},
    }


@pytest.mark.parametrize("provider, authority", [("own_ca", True), ("files", False), ("acme", False)])
def test_the_own_authority_is_presented_with_its_own_certificate_only(provider, authority):
    rendered = configuration(ejabberd_certificate_provider=provider)
    assert ("/etc/archipel/ca/ca.pem" in rendered["certfiles"]) is authority
    assert rendered["acme"] == {"auto": False}


def test_a_users_module_options_are_laid_over_the_roles():
    modules = configuration(ejabberd_modules={"mod_mam": {"default": "always"}, "mod_ping": {"ping_interval": 30}})[
        "modules"
    ]
    assert modules["mod_mam"] == {"default": "always"}
    assert modules["mod_ping"] == {**configuration()["modules"]["mod_ping"], "ping_interval": 30}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("address, name", [("127.0.0.1", "localhost"), ("192.0.2.7", "192.0.2.7")])
def test_erlang_is_bound_to_loopback_or_the_address_that_is_named(family, address, name):
    runtime = render("ejabberdctl.cfg.j2", family, ejabberd_distribution_address=address)
    assert f"ERLANG_NODE=ejabberd@{name}\n" in runtime
    assert f"INET_DIST_INTERFACE={address}\n" in runtime
    mapper = render("epmd.socket.conf.j2", family, ejabberd_distribution_address=address)
    listen = [line.partition("=")[2] for line in mapper.splitlines() if line.startswith("ListenStream")]
    assert listen == ["", *(f"{each}:4369" for each in dict.fromkeys(["127.0.0.1", address]))]


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_has_the_same_variables(family):
    reference = yaml.safe_load((ROLE / "vars/Debian.yml").read_text())
    assert set(yaml.safe_load((ROLE / f"vars/{family}.yml").read_text())) == set(reference)


def test_no_answer_to_a_registration_is_kept_as_a_password():
    """By ejabberd's cache, of which its own example says nothing."""
    assert configuration()["auth_use_cache"] is False
