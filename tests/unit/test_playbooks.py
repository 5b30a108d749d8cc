# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection's playbooks: callable by name, one connection in all of them, --limit and tags as documented."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PLAYBOOKS = sorted(path.stem for path in (ROOT / "playbooks").glob("*.yml"))
HOSTS = """
all:
  vars:
    ansible_become: true
    ansible_python_interpreter: /nonexistent
    # What is wrong is told before anybody is asked.
    archipel_vms:
      - {name: web, hypervisor: hv1, memory: much}
      - {name: db, hypervisor: hv2, memory: much}
      - {name: anywhere, memory: much}
  children:
    hypervisors:
      hosts:
        hv1.example.org:
        hv2.example.org:
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
    assert {"site", "converge", "drift", "import"} <= set(PLAYBOOKS)


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


@pytest.mark.parametrize("name", ["converge", "drift"])
@pytest.mark.parametrize(
    ("limit", "meant"),
    [
        ([], {"web", "db", "anywhere"}),
        (["--limit", "hv1.example.org"], {"web"}),
        (["--limit", "hypervisors"], {"web", "db"}),
    ],
)
def test_a_limit_to_hypervisors_is_one_to_their_machines(inventory, name, limit, meant):
    """It works on the controller alone, whatever the inventory says of the hypervisors."""
    account = {"ARCHIPEL_JID": "nobody@example.org", "ARCHIPEL_PASSWORD": "secret-1"}
    told = ansible(inventory, f"archipel.platform.{name}", *limit, **account)
    assert told.returncode == 2
    text = told.stdout + told.stderr
    assert {machine for machine in ("web", "db", "anywhere") if f"({machine})" in text} == meant, text
    assert "secret-1" not in text


def test_tags_of_the_site_are_those_that_it_names(inventory):
    told = ansible(inventory, "--list-tags", "playbooks/site.yml")
    tags = set(re.findall(r"[a-z_]+", " ".join(re.findall(r"TASK TAGS: \[(.*)\]", told.stdout))))
    assert tags == {"always", "ejabberd", "archipel_client", "archipel_pubsub", "libvirt", "archipel_agent"}
