# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ansible-builder makes of the collection and of the example. No image is built: that takes a registry.

tests/integration/test_ansible_runner.py installs what is found here, and runs the modules with it.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
DEFINITION = ROOT / "inventories" / "example" / "execution-environment" / "execution-environment.yml"


def builder(*arguments):
    command = [Path(sys.executable).with_name("ansible-builder"), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_example_becomes_a_build_context(tmp_path):
    builder("create", "-f", DEFINITION, "-c", tmp_path / "context", "--output-filename", "Containerfile")
    containerfile = (tmp_path / "context" / "Containerfile").read_text()
    assert "quay.io/fedora/fedora" in containerfile and "ansible-runner" in containerfile
    collections = yaml.safe_load((tmp_path / "context" / "_build" / "requirements.yml").read_text())["collections"]
    galaxy = yaml.safe_load((ROOT / "galaxy.yml").read_text())
    assert [one["name"] for one in collections] == [galaxy["repository"] + ".git"]
    # AWX's own installation of collections, for who uses another environment.
    assert yaml.safe_load((DEFINITION.parents[1] / "requirements.yml").read_text())["collections"] == collections


def test_it_has_every_program_that_ci_runs():
    """Programs of Python's: what the image's own shell has is not looked at."""
    repository = DEFINITION.parents[1]
    ci = yaml.safe_load((repository / ".gitlab-ci.yml").read_text())
    scripts = [line for job in ci.values() if isinstance(job, dict) for line in job.get("script", [])]
    programs = {line.split()[0] for line in scripts} - {f"./{path.name}" for path in repository.iterdir()}
    dependencies = yaml.safe_load(DEFINITION.read_text())["dependencies"]
    declared = [dependencies[part]["package_pip"] for part in ("ansible_core", "ansible_runner")]
    declared += dependencies["python"]
    brought = {
        program.name
        for package in declared
        for program in distribution(re.split(r"[<>=]", package)[0]).entry_points.select(group="console_scripts")
    }
    assert programs >= {"ansible-playbook"} and programs - brought == set()


def test_a_build_finds_what_the_collection_needs(tmp_path):
    found = {"pip": tmp_path / "pip.txt", "bindep": tmp_path / "bindep.txt"}
    builder("introspect", ROOT / ".ansible/collections", *(f"--write-{kind}={path}" for kind, path in found.items()))
    needed = {re.split(r"[<>=\s]", line)[0] for line in found["pip"].read_text().splitlines() if line.strip()}
    assert needed == foreign()
    assert "openssh-client" in found["bindep"].read_text()


def foreign() -> set[str]:
    """What plugins import that neither Python nor Ansible brings."""
    names = set()
    for path in (ROOT / "plugins").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.add((node.module or "").partition(".")[0])
    return names - set(sys.stdlib_module_names) - {"ansible", "ansible_collections"}
