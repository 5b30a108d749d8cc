# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a module tells is printed while it runs, by Ansible itself, and only where that can be; in a process or none."""

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
import importlib.util
from pathlib import Path
from ansible_collections.archipel.platform.plugins.plugin_utils.progress import ModuleWithProgress
spec = importlib.util.spec_from_file_location("tell", Path(__file__).parents[1] / "library" / "tell.py")
tell = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tell)
class ActionModule(ModuleWithProgress):
    module = tell
"""
# Ends only when its first event was printed, or when it is sure that nobody will print it.
MODULE = """#!/usr/bin/python
import sys
import time
from pathlib import Path
from ansible_collections.archipel.platform.plugins.module_utils._arguments import Module
from ansible_collections.archipel.platform.plugins.module_utils._progress import Event, Progress
def main():
    options = {"vm": {"type": "str"}, "printed": {"type": "path"}, "secret": {"type": "str", "no_log": True}}
    module = Module(lambda params: [], argument_spec=options, supports_check_mode=True)
    progress, vm = Progress.of(module), module.params["vm"]
    progress.tell(Event(vm, "moves", 7))
    while progress.watched and vm + ": moves, 7 %" not in Path(module.params["printed"]).read_text():
        time.sleep(0.05)
    progress.tell(Event(vm, "has moved"))
    module.warn("careful with " + vm)
    told = {"watched": progress.watched, "inside": "ansible.plugins.action" in sys.modules}
    if module.params["secret"] == "wrong":
        module.fail_json(msg="a wrong secret", **told)
    module.exit_json(changed=not module.check_mode, told=module.params["secret"], **told)
if __name__ == "__main__":
    main()
"""
# The one Ansible runs in, under another name.
OTHER_PYTHON = {"ansible_python_interpreter": "{{ playbook_dir }}/python"}


def task(vm: str, **keywords) -> dict:
    return {"tell": {"vm": vm, "printed": "{{ printed }}"}, "register": vm, **keywords}


def with_secret(vm: str, secret: str, **keywords) -> dict:
    return task(vm, tell={"vm": vm, "printed": "{{ printed }}", "secret": secret}, ignore_errors=True, **keywords)


TASKS = [
    task("seen"),
    task("delegated", delegate_to="elsewhere"),
    task("delegated_here", delegate_to="here"),
    task("checked", check_mode=True),
    task("hidden", no_log=True),
    task("beside", **{"async": 60, "poll": 1}),
    task("repeated", loop=[1, 2]),
    task("other_python", vars=OTHER_PYTHON),
    task("variables", environment={"SOMETHING": "else"}),
    task("somebody_else", become=True, become_method="nothing"),
    with_secret("secret", "abracadabra"),
    with_secret("secret_outside", "abracadabra", vars=OTHER_PYTHON),
    with_secret("failed", "wrong"),
    with_secret("failed_outside", "wrong", vars=OTHER_PYTHON),
    task("refused", tell={"vms": "web"}, ignore_errors=True),
    task("refused_outside", tell={"vms": "web"}, ignore_errors=True, vars=OTHER_PYTHON),
]
NAMES = [one["register"] for one in TASKS]
# In the order of their lines.
PRINTED = ("seen", "delegated_here", "repeated", "repeated", "other_python", "variables", "somebody_else")
PRINTED += ("secret", "secret_outside", "failed", "failed_outside")
OUTSIDE = ("delegated", "beside", "other_python", "variables", "somebody_else", "secret_outside", "failed_outside")
REFUSED = ("refused", "refused_outside")


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
# Becomes nobody else, without a program of the host.
BECOME = """
DOCUMENTATION = '''
name: nothing
short_description: nothing
description: Nothing.
author: nobody
options: {}
'''
from ansible.plugins.become import BecomeBase
class BecomeModule(BecomeBase):
    name = "nothing"
    def get_option(self, option, hostvars=None, playcontext=None):
        return None
    def build_become_command(self, cmd, shell):
        return cmd
"""
INVENTORY = {
    "all": {
        "hosts": {
            "localhost": {"ansible_connection": "local"},
            "here": {"ansible_connection": "local"},
            "elsewhere": {"ansible_connection": "other_local"},
        },
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
        ("become_plugins/nothing.py", BECOME),
        ("hosts.yml", yaml.safe_dump(INVENTORY)),
        ("play.yml", yaml.safe_dump([play], sort_keys=False)),
    ):
        (directory / path).parent.mkdir(exist_ok=True)
        (directory / path).write_text(text)
    (directory / "python").symlink_to(sys.executable)
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
    assert told == [one.format(name) for name in PRINTED for one in pair]


@pytest.mark.parametrize("name", [name for name in NAMES if name not in REFUSED])
def test_the_result_is_the_same_whether_anything_is_printed_or_not(run, name):
    dummy, results = run
    found = results[name]
    for one in found.get("results", [found]):
        assert one.get("changed", False) is (name != "checked" and not name.startswith("failed"))
        assert one["watched"] is (name in PRINTED)
        assert one["inside"] is (name not in OUTSIDE)
    assert {str(text) for text in found["warnings"]} == {f"careful with {name}"}


@pytest.mark.parametrize("name", ["secret", "failed", "refused"])
def test_the_result_of_a_process_is_that_of_no_process(run, name):
    dummy, results = run
    inside, outside = ({**results[one]} for one in (name, f"{name}_outside"))
    for one, where in ((inside, name), (outside, f"{name}_outside")):
        assert "abracadabra" not in json.dumps(one)
        text = json.dumps({key: value for key, value in one.items() if key != "inside"}).replace(where, name)
        one.clear()
        one.update(json.loads(text))
    assert inside == outside
    assert inside.get("failed", False) is (name != "secret")


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
