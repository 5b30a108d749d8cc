# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection's playbooks: callable by name, one connection in all of them, --limit and tags as documented."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ansible_collections.archipel.platform.plugins.module_utils import _fleet

ROOT = Path(__file__).resolve().parents[2]
PLAYBOOKS = sorted(path.stem for path in (ROOT / "playbooks").glob("*.yml"))
HOSTS = """
all:
  vars:
    ansible_become: true
    ansible_python_interpreter: /nonexistent
  children:
    hypervisors:
      hosts:
        hv1.example.org:
        hv2.example.org:
    xmpp_servers:
      hosts:
        xmpp.example.org:
"""


def plays(name):
    return yaml.safe_load((ROOT / "playbooks" / f"{name}.yml").read_text())


def ansible(inventory, *arguments, **variables):
    command = [Path(sys.executable).with_name("ansible-playbook"), "-i", inventory, *arguments]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("ARCHIPEL_")}
    return subprocess.run(
        command, cwd=ROOT, env={**environment, **variables}, capture_output=True, text=True, check=False
    )


@pytest.fixture
def inventory(tmp_path):
    (tmp_path / "hosts.yml").write_text(HOSTS)
    return tmp_path / "hosts.yml"


def test_they_are_called_by_name(inventory):
    told = ansible(inventory, "--syntax-check", *(f"archipel.platform.{name}" for name in PLAYBOOKS))
    assert told.returncode == 0, told.stderr
    assert {"site", "converge", "drift", "import", "group"} <= set(PLAYBOOKS)


def test_the_connection_is_said_in_one_way():
    ours = [play for name in PLAYBOOKS if name != "site" for play in plays(name)]
    assert all(play["module_defaults"] == ours[0]["module_defaults"] for play in ours)
    (defaults,) = ours[0]["module_defaults"].values()
    assert set(defaults) == {"jid", "password", "server", "port", "ca_file", "timeout"}


@pytest.mark.parametrize("name", sorted(set(PLAYBOOKS) - {"site"}))
def test_every_variable_is_in_the_guides(name):
    """Those that a user sets; what a playbook makes itself is not one."""
    text = (ROOT / "playbooks" / f"{name}.yml").read_text()
    made = set(re.findall(r"(?:register|loop_var): (\w+)", text)) | set(re.findall(r"^ +(archipel_\w+):", text, re.M))
    read = set(re.findall(r"(?<![\w./])archipel_\w+", re.sub(r"archipel\.platform\.\w+|^#.*$", "", text, flags=re.M)))
    guides = "".join(path.read_text() for path in (ROOT / "docs" / "guides").glob("*.md"))
    assert [variable for variable in sorted(read - made) if f"`{variable}`" not in guides] == []


ACCOUNT = {"ARCHIPEL_JID": "nobody@example.org", "ARCHIPEL_PASSWORD": "secret-1"}
# Nobody listens there.
NOWHERE = {**ACCOUNT, "ARCHIPEL_SERVER": "127.0.0.1", "ARCHIPEL_PORT": "1"}


def module_options(inventory, name, *arguments):
    """The options with which a playbook calls its module, which then finds no server."""
    told = ansible(
        inventory, f"archipel.platform.{name}", "-vvv", *arguments, ANSIBLE_CALLBACK_RESULT_FORMAT="json", **NOWHERE
    )
    text = told.stdout + told.stderr
    assert told.returncode == 2 and "127.0.0.1:1 cannot be reached" in text and "secret-1" not in text, text
    found = re.search(r"fatal: [^{]*=> ({.*?^})", told.stdout, re.M | re.S)
    return {key: value for key, value in json.loads(found[1])["invocation"]["module_args"].items() if value is not None}


def given(**variables):
    return ["-e", json.dumps({f"archipel_{name}": value for name, value in variables.items()})]


LIMITS = [
    ([], None),
    (["--limit", "hv1.example.org"], ["hv1"]),
    (["--limit", "hypervisors"], ["hv1", "hv2"]),
    (["--limit", "hv1.example.org,localhost"], ["hv1"]),
    (["--limit", "xmpp_servers,hv1.example.org,localhost"], ["hv1"]),
]


@pytest.mark.parametrize("name", ["converge", "drift", "group"])
@pytest.mark.parametrize(("limit", "hypervisors"), LIMITS)
def test_a_limit_to_hypervisors_is_one_to_their_machines(inventory, name, limit, hypervisors):
    """It works on the controller alone, whatever the inventory says of the hypervisors."""
    variables = {"group_names": "web-*", "group_state": "stopped"} if name == "group" else {"vms": [{"name": "web"}]}
    options = module_options(inventory, name, *given(**variables), *limit)
    assert options["selector" if name == "group" else "limit"].get("hypervisors") == hypervisors


@pytest.mark.parametrize(("limit", "hypervisors"), LIMITS)
def test_domains_are_imported_from_all_hypervisors_of_a_limit_at_once(inventory, limit, hypervisors):
    options = module_options(inventory, "import", *given(import_names="web, db"), *limit)
    assert (options["names"], options.get("hypervisors")) == (["web", "db"], hypervisors)


@pytest.mark.parametrize("name", ["converge", "drift", "group", "import"])
def test_a_limit_without_a_hypervisor_is_not_everything(inventory, name):
    variables = {"vms": [{"name": "web"}], "group_names": "*", "group_state": "stopped", "import_all": True}
    limit = "xmpp_servers,localhost"
    told = ansible(inventory, f"archipel.platform.{name}", *given(**variables), "--limit", limit, **NOWHERE)
    text = " ".join((told.stdout + told.stderr).split())
    assert told.returncode == 2 and f"--limit: '{limit}' has no host of the group hypervisors; name some" in text, text
    assert "cannot be reached" not in text


@pytest.mark.parametrize(
    ("name", "variables", "option"),
    [
        ("group", {"group_tags": [], "group_names": "*", "group_state": "stopped"}, "selector.tags"),
        ("converge", {"vms": [{"name": "web"}], "limit_names": []}, "limit.names"),
        ("drift", {"vms": [{"name": "web"}], "limit_tags": []}, "limit.tags"),
    ],
)
def test_a_list_that_a_template_left_empty_is_not_everything(inventory, name, variables, option):
    """An empty text is: a form that was not filled in has it."""
    told = ansible(inventory, f"archipel.platform.{name}", *given(**variables), **NOWHERE)
    text = told.stdout + told.stderr
    assert told.returncode == 2 and f"{option}: is empty; name at least one, or leave it out" in text, text


# Each variable of the fleet's playbooks, and the option that it becomes.
FLEET = {
    "defaults": {"memory": "1GiB"},
    "scope": {"tags": ["web"], "hypervisors": None},
    "purge": "remove",
    "purge_limit": 3,
    "on_error": "stop",
    "max_parallel": 4,
    "max_parallel_per_hypervisor": 3,
    "max_migrations": 2,
    "max_migrations_per_source": 1,
}


def test_every_option_of_the_fleet_is_a_variable(inventory):
    """All but those that the playbooks make themselves of others, or of --limit."""
    assert {*FLEET, "vms", "vms_dir"} == set(_fleet.argument_spec()) - {"limit", "selector", "state", "hypervisor"}
    limited = {"limit_names": "web-*,db", "limit_tags": ["a"]}
    options = module_options(inventory, "converge", *given(vms=[{"name": "web"}], **limited, **FLEET))
    # The defaults have been merged into the declarations.
    assert {key: options[key] for key in FLEET if key != "defaults"} == {
        key: value for key, value in FLEET.items() if key != "defaults"
    }
    assert options["vms"][0]["memory"] == "1GiB"
    assert options["limit"] == {"names": ["web-*", "db"], "tags": ["a"], "hypervisors": None}


def test_drift_tells_of_what_is_not_declared_without_doing_anything_to_it(inventory):
    vms = [{"name": "web"}]
    assert module_options(inventory, "drift", *given(vms=vms))["purge"] == "none"
    options = module_options(inventory, "drift", *given(vms=vms, **FLEET))
    assert (options["purge"], options["scope"], options["vms"][0]["memory"]) == ("report", FLEET["scope"], "1GiB")


def test_a_group_is_told_what_to_do_and_how(inventory):
    variables = {"tags": "web,db", "names": "web-*", "states": "running", "state": "stopped", "hypervisor": "hv2"}
    how = {key: FLEET[key] for key in FLEET if key.startswith(("on_", "max_"))}
    arguments = given(defaults={"force": True}, **how, **{f"group_{key}": value for key, value in variables.items()})
    options = module_options(inventory, "group", *arguments)
    selector = {"tags": ["web", "db"], "names": ["web-*"], "states": ["running"], "hypervisors": None}
    assert (options["selector"], options["state"], options["hypervisor"]) == (selector, "stopped", "hv2")
    assert {key: options[key] for key in how} == how and options["defaults"] == {"force": True}


def test_a_group_of_nobody_is_refused(inventory):
    """As a form whose fields are empty would ask for."""
    empty = {f"group_{key}": "" for key in ("tags", "names", "states", "hypervisor")}
    told = ansible(inventory, "archipel.platform.group", *given(group_state="stopped", **empty), **NOWHERE)
    assert told.returncode == 2 and "selector: give tags, hypervisors, states or names" in told.stdout + told.stderr


@pytest.mark.parametrize("name", ["converge", "drift"])
@pytest.mark.parametrize("whole", [False, True])
def test_a_folder_of_declarations_begins_at_the_inventory(inventory, name, whole):
    """At its folder, or at itself where it is one; or anywhere, with an absolute path."""
    (inventory.parent / "vms").mkdir()
    (inventory.parent / "vms" / "web.yml").write_text("{name: web, memory: much}")
    source = inventory.parent if whole else inventory
    for folder in ("vms", str(inventory.parent / "vms")):
        told = ansible(source, f"archipel.platform.{name}", *given(vms_dir=folder), **ACCOUNT)
        assert told.returncode == 2 and "web.yml (web): memory: 'much'" in told.stdout + told.stderr, told.stdout


def test_tags_of_the_site_are_those_that_it_names(inventory):
    told = ansible(inventory, "--list-tags", "playbooks/site.yml")
    tags = set(re.findall(r"[a-z_]+", " ".join(re.findall(r"TASK TAGS: \[(.*)\]", told.stdout))))
    assert tags == {"always", "ejabberd", "archipel_client", "archipel_pubsub", "libvirt", "archipel_agent"}
