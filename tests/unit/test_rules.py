# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The collection's own rules."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(path.stem for path in (ROOT / "plugins" / "modules").glob("*.py"))
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir() if path.is_dir())
# Texts that carry no comment, or whose text is not ours.
NO_SPDX = re.compile(
    r"(^COPYING|\.json|\.png|^CHANGELOG\.rst|^changelogs/changelog\.yaml|/__init__\.py|^requirements.*\.txt)$"
)


def tracked() -> list[str]:
    listing = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True)
    return [name for name in listing.stdout.splitlines() if (ROOT / name).is_file()]


def imports(path: Path) -> list[tuple[int, str]]:
    """(level, module) of every import in a file."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(0, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node.level, node.module or ""))
    return found


@pytest.mark.parametrize(
    "path", sorted((ROOT / "plugins/module_utils/archipel_protocol").glob("*.py")), ids=lambda p: p.stem
)
def test_the_wire_package_imports_the_standard_library_and_itself(path):
    foreign = [
        name for level, name in imports(path) if not level and name.partition(".")[0] not in sys.stdlib_module_names
    ]
    assert foreign == []
    assert [level for level, dummy in imports(path) if level > 1] == []


def importers(folder: str, package: str) -> set[str]:
    return {
        path.stem
        for path in (ROOT / folder).rglob("*.py")
        if any(not level and name.partition(".")[0] == package for level, name in imports(path))
    }


def test_slixmpp_is_behind_one_file_a_side():
    assert importers("roles/archipel_agent/files/archipel_agent", "slixmpp") == {"xmpp_client"}
    assert len(importers("plugins", "slixmpp")) == 1


def test_no_module_reaches_around_the_agent():
    assert importers("plugins", "libvirt") == set()
    assert importers("plugins", "subprocess") == set()


def test_action_group_is_complete():
    runtime = yaml.safe_load((ROOT / "meta" / "runtime.yml").read_text())
    assert runtime["action_groups"]["archipel"] == MODULES


@pytest.mark.parametrize("module", MODULES)
def test_every_module_is_exercised_on_real_hosts(module):
    playbooks = "".join(path.read_text() for path in (ROOT / "tests" / "integration").rglob("*.yml"))
    assert f"archipel.platform.{module}:" in playbooks


def values(documentation: dict, path: str = "") -> dict[str, dict]:
    """The return values of a module that have no others in them, by their paths."""
    found = {}
    for name, value in documentation.items():
        if "contains" in value:
            found.update(values(value["contains"], f"{path}{name}."))
        else:
            found[path + name] = value
    return found


@pytest.mark.parametrize("module", MODULES)
def test_every_return_value_has_a_sample_of_its_type(module):
    types = {"str": str, "int": int, "float": (int, float), "bool": bool, "list": list, "dict": dict}
    source = ast.parse((ROOT / "plugins" / "modules" / f"{module}.py").read_text())
    (text,) = (ast.literal_eval(node.value) for node in source.body if _assigns(node, "RETURN"))
    returned = values(yaml.safe_load(text))
    assert returned
    assert [path for path, value in returned.items() if not isinstance(value.get("sample"), types[value["type"]])] == []


def _assigns(node: ast.stmt, name: str) -> bool:
    return isinstance(node, ast.Assign) and [target.id for target in node.targets] == [name]


@pytest.mark.parametrize("role", ROLES)
def test_defaults_are_those_of_the_argument_specification(role):
    folder = ROOT / "roles" / role
    options = yaml.safe_load((folder / "meta" / "argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    defaults = yaml.safe_load((folder / "defaults" / "main.yml").read_text()) or {}
    assert set(defaults) <= set(options)
    for name, value in defaults.items():
        if isinstance(value, str) and "{{" in value:
            continue  # computed; the specification can only describe it
        assert options[name].get("default") == value, name


@pytest.mark.parametrize("role", ROLES)
def test_readme_names_every_variable_of_the_role(role):
    folder = ROOT / "roles" / role
    options = yaml.safe_load((folder / "meta" / "argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    readme = (folder / "README.md").read_text()
    assert [name for name in options if f"`{name}`" not in readme] == []
    named = set(re.findall(rf"^\| `({role}_\w+)`", readme, re.MULTILINE))
    assert named - set(options) == set()


@pytest.mark.parametrize("name", [name for name in tracked() if not NO_SPDX.search(name)])
def test_every_file_names_its_license(name):
    head = (ROOT / name).read_bytes()[:1500]
    assert b"SPDX-License-Identifier: GPL-3.0-or-later" in head
