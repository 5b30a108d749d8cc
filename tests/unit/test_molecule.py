# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""molecule's scenarios leave out no role and no integration playbook."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterator

import pytest
import yaml

from archipel_lab.topology import HOSTS

ROOT = Path(__file__).resolve().parents[2]
SCENARIOS = sorted(path.parent.name for path in (ROOT / "molecule").glob("*/molecule.yml"))
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir() if path.is_dir())


def imports(playbook: Path) -> set[Path]:
    """The playbooks that a playbook imports."""
    plays = yaml.safe_load(playbook.read_text())
    names = [play["ansible.builtin.import_playbook"] for play in plays if "ansible.builtin.import_playbook" in play]
    return {(playbook.parent / name).resolve() for name in names}


def test_the_scenarios_are_the_platform_and_each_role():
    assert sorted([*ROLES, "platform"]) == SCENARIOS


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_scenario_converges_and_verifies_on_hosts_of_the_lab(scenario):
    folder = ROOT / "molecule" / scenario
    assert all((folder / name).is_file() for name in ("converge.yml", "verify.yml"))
    platforms = yaml.safe_load((folder / "molecule.yml").read_text())["platforms"]
    assert {platform["name"] for platform in platforms} <= set(HOSTS)


def test_verify_imports_every_integration_playbook():
    playbooks = set((ROOT / "tests/integration").glob("*.yml"))
    parts = set().union(*map(imports, playbooks))
    verified = set().union(*(imports(ROOT / "molecule" / scenario / "verify.yml") for scenario in SCENARIOS))
    assert playbooks - parts == {path for path in verified if path.parent == ROOT / "tests/integration"} - parts


def tasks(play: Any) -> Iterator[dict[str, Any]]:
    """A play, its blocks and tasks, or those of a list."""
    if isinstance(play, list):
        for one in play:
            yield from tasks(one)
    elif isinstance(play, dict):
        yield play
        for part in ("pre_tasks", "tasks", "block", "rescue", "always"):
            yield from tasks(play.get(part))


def of_localhost(playbook: Path) -> list[dict[str, Any]]:
    plays = yaml.safe_load(playbook.read_text())
    return [task for play in plays if play.get("hosts") == "localhost" for task in tasks(play)]


@pytest.mark.parametrize("playbook", sorted((ROOT / "tests/integration").glob("*.yml")), ids=lambda path: path.stem)
def test_no_variable_has_a_name_that_another_playbook_registers(playbook):
    """What is registered stays to the end of verify.yml and comes before variables of plays, blocks and tasks."""
    others = [path for path in (ROOT / "tests/integration").glob("*.yml") if path != playbook]
    told = [task for path in others for task in of_localhost(path)]
    for path in (ROOT / "tests/integration/steps").glob("*.yml"):
        told += tasks(yaml.safe_load(path.read_text()))
    registered = {task["register"] for task in told if "register" in task}
    includes = "ansible.builtin.include_tasks"  # whose variables come before what is registered
    used = {name for task in of_localhost(playbook) if includes not in task for name in task.get("vars", ())}
    assert not used & registered
