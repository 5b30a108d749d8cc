# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""ansible-doc shows every module, inventory plugin, filter and role, as a user would ask for it."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]


def shown(kind: str, names: list[str]) -> dict:
    answer = subprocess.run(
        ["ansible-doc", "--json", "--type", kind, *names], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


@pytest.mark.parametrize(("kind", "folder"), [("module", "modules"), ("inventory", "inventory"), ("filter", "filter")])
def test_plugins_are_documented(kind, folder):
    names = sorted(f"archipel.platform.{path.stem}" for path in (ROOT / "plugins" / folder).glob("*.py"))
    documents = shown(kind, names)
    assert sorted(documents) == names
    assert [name for name, parts in documents.items() if not (parts.get("doc") and parts.get("examples"))] == []


def returned(module: str, key: str) -> dict:
    name = f"archipel.platform.{module}"
    return shown("module", [name])[name]["return"][key]["contains"]


def test_what_modules_return_alike_is_documented_alike():
    """A documentation fragment cannot hold return values."""
    assert returned("archipel_vm_info", "silent") == returned("archipel_hypervisor_info", "silent")
    facts, read = returned("archipel_vm", "vm"), returned("archipel_vm_info", "vms")
    # A virtual machine that is not managed has no address yet, and only archipel_vm_info returns such ones.
    assert {key: read[key] for key in facts if key != "jid"} == {key: facts[key] for key in facts if key != "jid"}


ROLES = sorted(path.name for path in (ROOT / "roles").iterdir() if path.is_dir())


def variables(role: str) -> set[str]:
    """The variables that a user may set: those that the role has a default for, and those that it only reads."""
    folder = ROOT / "roles" / role
    texts = {path: path.read_text() for path in folder.rglob("*") if path.suffix in (".yml", ".j2")}
    used, defined = set(), set()
    for path, text in texts.items():
        if path.relative_to(folder).parts[0] in ("tasks", "handlers", "templates", "vars"):
            # Of a template only what Jinja evaluates: ejabberd has modules that are called like variables.
            read = " ".join(re.findall(r"{[{%].*?[}%]}", text, re.DOTALL)) if path.suffix == ".j2" else text
            used.update(re.findall(rf"(?<![\w.'-]){role}_\w+", read))
            defined.update(re.findall(rf"^[\s-]*({role}_\w+):", text, re.MULTILINE))
            defined.update(re.findall(rf"(?:register:|loop_var:|{{%-? set) ({role}_\w+)", text))
    return used - defined | set(yaml.safe_load(texts[folder / "defaults" / "main.yml"]) or {})


def test_roles_are_documented():
    names = [f"archipel.platform.{role}" for role in ROLES]
    documents = shown("role", names)
    assert sorted(documents) == names
    for role, name in zip(ROLES, names):
        options = documents[name]["entry_points"]["main"]["options"]
        assert variables(role) - set(options) == set(), role
        assert [option for option, parts in options.items() if not parts.get("description")] == [], role


def test_variables_are_found():
    """What the test above compares with: defaults, a required variable and an optional one without a default."""
    assert {"archipel_agent_port", "archipel_agent_domain", "archipel_agent_password"} <= variables("archipel_agent")
    assert "archipel_agent_slurped_ca" not in variables("archipel_agent")
