# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a module tells is printed while it runs, by Ansible itself, and only where that can be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ansible_collections.archipel.platform.plugins.module_utils._progress import FILE, Event, Progress
from ansible_collections.archipel.platform.plugins.plugin_utils.progress import line

ROOT = Path(__file__).resolve().parents[3]
PLUGIN = """
from ansible_collections.archipel.platform.plugins.plugin_utils.progress import ModuleWithProgress
class ActionModule(ModuleWithProgress):
    pass
"""
# Ends only when its first event was printed, or when it is sure that nobody will print it.
MODULE = """#!/usr/bin/python
import time
from pathlib import Path
from ansible.module_utils.basic import AnsibleModule
from ansible_collections.archipel.platform.plugins.module_utils._progress import Event, Progress
module = AnsibleModule({"vm": {"type": "str"}, "printed": {"type": "path"}}, supports_check_mode=True)
progress, vm = Progress.of(module), module.params["vm"]
progress.tell(Event(vm, "moves", 7))
while progress.watched and vm + ": moves, 7 %" not in Path(module.params["printed"]).read_text():
    time.sleep(0.05)
progress.tell(Event(vm, "has moved"))
module.exit_json(changed=True, watched=progress.watched)
"""


def task(vm: str, **keywords) -> dict:
    return {"tell": {"vm": vm, "printed": "{{ printed }}"}, "register": vm, **keywords}


TASKS = [
    task("seen"),
    task("delegated", delegate_to="elsewhere"),
    task("checked", check_mode=True),
    task("hidden", no_log=True),
    task("beside", **{"async": 60, "poll": 1}),
    task("repeated", loop=[1, 2]),
]
NAMES = [one["register"] for one in TASKS]


# A connection that is none to the controller, as far as Ansible knows.
CONNECTION = """
DOCUMENTATION = '''
name: other_local
short_description: another host
description: Another host.
author: nobody
'''
from ansible.plugins.connection.local import Connection as Local
class Connection(Local):
    transport = "other_local"
"""
INVENTORY = {
    "all": {
        "hosts": {"localhost": {"ansible_connection": "local"}, "elsewhere": {"ansible_connection": "other_local"}},
        "vars": {"ansible_python_interpreter": sys.executable},
    }
}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> tuple[list[str], dict]:
    """(lines that were printed of machines, results by name) of a playbook with all of TASKS."""
    directory = tmp_path_factory.mktemp("progress")
    results, printed = directory / "results", directory / "stderr"
    told = {"copy": {"content": "{{ told | to_json }}", "dest": str(results)}}
    told["vars"] = {"told": {name: "{{ %s }}" % name for name in NAMES}}
    play = {"hosts": "localhost", "gather_facts": False, "vars": {"printed": str(printed)}, "tasks": [*TASKS, told]}
    for path, text in (
        ("action_plugins/tell.py", PLUGIN),
        ("library/tell.py", MODULE),
        ("connection_plugins/other_local.py", CONNECTION),
        ("hosts.yml", yaml.safe_dump(INVENTORY)),
        ("play.yml", yaml.safe_dump([play], sort_keys=False)),
    ):
        (directory / path).parent.mkdir(exist_ok=True)
        (directory / path).write_text(text)
    collections = {"ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".ansible" / "collections")}
    with printed.open("w") as stderr:
        done = subprocess.run(
            ["ansible-playbook", "-i", "hosts.yml", "play.yml"],
            cwd=directory,
            env={**os.environ, **collections, "ANSIBLE_HOME": str(directory / "home")},
            stderr=stderr,
            stdout=subprocess.PIPE,
            check=False,
            timeout=120,
            text=True,
        )
    assert done.returncode == 0, done.stdout + printed.read_text()
    lines = [one for one in printed.read_text().splitlines() if one.partition(":")[0] in NAMES]
    return lines, json.loads(results.read_text())


def test_events_are_printed_while_the_module_runs_where_both_are_on_the_controller(run):
    told, dummy = run
    pair = ["{}: moves, 7 %", "{}: has moved"]
    assert told == [one.format(name) for name in ("seen", "repeated", "repeated") for one in pair]


@pytest.mark.parametrize("name", NAMES)
def test_the_result_is_the_same_whether_anything_is_printed_or_not(run, name):
    dummy, results = run
    found = results[name]
    for one in found.get("results", [found]):
        assert one["changed"] is True
        assert one["watched"] is (name in ("seen", "repeated"))


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (Event("web", "moves to hv2"), "web: moves to hv2"),
        (Event("web", "moves to hv2", 0), "web: moves to hv2, 0 %"),
        (Event("web", "moves to hv2", 42, "120MiB left"), "web: moves to hv2, 42 %, 120MiB left"),
        (Event("web\x1b[2J\n", "moves"), "web?[2J?: moves"),
    ],
)
def test_lines(event, text):
    assert line(json.dumps(event._asdict())) == text


@pytest.mark.parametrize("event", ["", "{", "[]", "1", "{}"])
def test_what_is_no_event_is_not_printed(event):
    assert line(event) == ""


def test_what_did_not_change_is_told_once_and_of_each_machine(tmp_path):
    (tmp_path / FILE).touch()
    progress = Progress(str(tmp_path))
    for event in (Event("a", "moves", 1), Event("b", "moves", 1), Event("a", "moves", 1), Event("a", "moves", 2)):
        progress.tell(event)
    found = [json.loads(one) for one in (tmp_path / FILE).read_text().splitlines()]
    assert [(one["vm"], one["percent"]) for one in found] == [("a", 1), ("b", 1), ("a", 2)]


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "target").touch()
    (tmp_path / FILE).symlink_to(tmp_path / "target")
    progress = Progress(str(tmp_path))
    progress.tell(Event("web", "moves"))
    assert not progress.watched and (tmp_path / "target").read_text() == ""
