# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""archipel_fleet's declarations in files, as Ansible itself reads them; nothing here gets as far as a platform."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import VaultLib, VaultSecret
from ansible_collections.archipel.platform.plugins.action import archipel_fleet
from ansible_collections.archipel.platform.plugins.plugin_utils import vm_files
from ansible_collections.archipel.platform.plugins.plugin_utils.progress import ModuleWithProgress

ROOT = Path(__file__).resolve().parents[3]
SECRET = b"the vault's password"


@pytest.fixture
def loader():
    """Ansible's, which knows the Vault's password."""
    found = DataLoader()
    found.set_vault_secrets([("default", VaultSecret(SECRET))])
    return found


def encrypted(text: str) -> str:
    return VaultLib([("default", VaultSecret(SECRET))]).encrypt(text).decode()


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_yml", ".yml").replace("_json", ".json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_a_directory_is_read_in_order_and_what_is_no_declaration_is_not(tmp_path, loader):
    write(
        tmp_path,
        web_yml="name: web\ntitle: '{{ no_template }}'\n",
        db__main_yml="- name: db1\n- name: db2\n",
        db__x_json='{"name": "x", "vcpus": 2}',
        README="name: readme\n",
    )
    write(tmp_path / ".git", config_yml="name: hidden\n")
    write(tmp_path, **{".hidden_yml": "name: hidden\n"})
    found, problems = vm_files.read(loader, str(tmp_path))
    assert problems == []
    assert found == [
        ("db/main.yml[0]", {"name": "db1"}),
        ("db/main.yml[1]", {"name": "db2"}),
        ("db/x.json", {"name": "x", "vcpus": 2}),
        ("web.yml", {"name": "web", "title": "{{ no_template }}"}),
    ]


def test_what_cannot_be_read_is_told_of_each_file_without_its_text(tmp_path, loader):
    write(tmp_path, a_yml="name: [s3cret\n", b_yml="", c_yml=encrypted("name: c\n").replace("$ANSIBLE", "$ANSIBLE"))
    loader.set_vault_secrets([("default", VaultSecret(b"another"))])
    found, problems = vm_files.read(loader, str(tmp_path))
    assert found == []
    assert [problem.partition(":")[0] for problem in problems] == ["a.yml", "b.yml", "c.yml"]
    assert "s3cret" not in str(problems)
    assert problems[1] == "b.yml: is empty; it must hold a declaration, or a list of them"


def test_a_directory_that_is_none_or_has_nothing(tmp_path, loader):
    assert vm_files.read(loader, str(tmp_path / "no"))[1] == [f"vms_dir: there is no directory {tmp_path / 'no'}"]
    (dummy, problems) = vm_files.read(loader, str(tmp_path))
    assert problems == [f"vms_dir: there is no file in {tmp_path} whose name ends in .yml, .yaml, .json"]


def run(folder: Path, vault: str = "", **options) -> dict:
    """The result of archipel_fleet with ``options``, in a playbook in ``folder``."""
    connection = {"jid": "automation@archipel.test", "password": "door-key", "server": "127.0.0.1", "port": 1}
    task = {"archipel.platform.archipel_fleet": {**connection, **options}, "register": "done", "ignore_errors": True}
    told = {"ansible.builtin.copy": {"content": "{{ done | to_json }}", "dest": str(folder / "result")}}
    play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": [task, told]}
    play["vars"] = {"ansible_python_interpreter": sys.executable}
    (folder / "play.yml").write_text(yaml.safe_dump([play]))
    done = subprocess.run(
        ["ansible-playbook", "play.yml"],
        cwd=folder,
        env={
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".ansible" / "collections"),
            "ANSIBLE_HOME": str(folder / "home"),
            **({"ANSIBLE_VAULT_PASSWORD_FILE": vault} if vault else {}),
        },
        capture_output=True,
        check=False,
        timeout=120,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "s3cret" not in done.stdout + done.stderr
    return json.loads((folder / "result").read_text())


def test_all_problems_are_told_with_file_and_option_before_anybody_is_asked(tmp_path):
    write(
        tmp_path / "vms",
        a_yml="name: a\nmemroy: 1GiB\nvcpus: many\ndepends_on: [b]\n",
        b_yml="- name: b\n  depends_on: [a]\n- just a word\n- vcpus: 1\n",
        c_yml="name: a\nmemory: '512'\ngraphics: [{type: vnc, password: s3cret, port: high}]\n",
        d_yml="name: [\n",
    )
    result = run(tmp_path, vms_dir="vms", defaults={"state": "running"})
    assert result["failed"] and not result["changed"]
    first, *problems = result["msg"].splitlines()
    assert first == "9 problems in the declarations, so nothing was done:"
    assert problems[0].startswith("- d.yml: cannot be read: ")
    assert problems[1:] == [
        "- a.yml (a): memroy: is no option; memory is",
        "- a.yml (a): vcpus: 'many' must be a whole number",
        "- b.yml[1]: must be a dictionary",
        "- c.yml (a): graphics[0].port: 'high' must be a whole number",
        "- b.yml[2]: name: one of name and uuid is required",
        "- c.yml (a): memory: '512' has no unit; write 512MiB or 512GiB",
        "- c.yml (a): name 'a' is that of a.yml too",
        "- a.yml (a): depends_on: goes in a circle: a needs b needs a",
    ]


def test_a_link_to_a_directory_is_refused_and_one_to_a_file_is_read(tmp_path, loader):
    write(tmp_path, vms__db__main_yml="name: db\n", elsewhere__web_yml="name: web\n", elsewhere__one_yml="name: one\n")
    write(tmp_path / "elsewhere" / ".git", x_yml="name: hidden\n")
    (tmp_path / "vms" / "one.yml").symlink_to("../elsewhere/one.yml")
    (tmp_path / "vms" / ".git").symlink_to("../elsewhere/.git")
    (tmp_path / "all").symlink_to("vms")
    assert vm_files.read(loader, str(tmp_path / "all")) == (
        [("db/main.yml", {"name": "db"}), ("one.yml", {"name": "one"})],
        [],
    )
    (tmp_path / "vms" / "db" / "more").symlink_to("../../elsewhere")
    problem = (
        "db/more: is a link to a directory, and is not followed; have the directory itself here, or links to its files"
    )
    assert vm_files.read(loader, str(tmp_path / "all"))[1] == [problem]
    assert run(tmp_path, vms_dir="vms")["msg"].splitlines()[1:] == [f"- {problem}"]


def test_defaults_are_merged_once_into_a_task_that_is_tried_again(tmp_path):
    """What a declaration takes away from them does not come back with the second attempt."""
    write(tmp_path / "vms", a_yml="name: a\nforce: null\n")
    attempts = []

    class Twice(archipel_fleet.ActionModule):
        def __init__(self):
            self._loader = DataLoader()
            self._loader.set_basedir(str(tmp_path))
            self._task = types.SimpleNamespace(args={"vms_dir": "vms", "defaults": {"force": True}}, no_log=False)

    action = Twice()
    given = dict(action._task.args)

    def attempt(self, tmp, task_vars):
        attempts.append(self._task.args)
        if len(attempts) == 2:
            raise RuntimeError("broken off")
        return {}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ModuleWithProgress, "run", attempt)
        action.run()
        with pytest.raises(RuntimeError, match="broken off"):
            action.run()
        action.run()
    assert attempts == [{"vms": [{"name": "a"}], "defaults": {"force": True}}] * 3
    assert action._task.args == given


def test_files_and_values_may_be_encrypted(tmp_path):
    value = "\n".join("  " + line for line in encrypted("512").splitlines())
    write(
        tmp_path,
        vms__file_yml=encrypted("name: whole\nvcpus: 0\n"),
        vms__value_yml=f"name: one\nmemory: !vault |\n{value}\n",
        vault=SECRET.decode(),
    )
    result = run(tmp_path, vault="vault", vms_dir="vms")
    assert result["msg"].splitlines()[1:] == [
        "- file.yml (whole): vcpus: must be at least 1",
        "- value.yml (one): memory: '512' has no unit; write 512MiB or 512GiB",
    ]


def test_a_mistake_in_defaults_is_told_once(tmp_path):
    vms = [{"name": "a"}, {"name": "b", "vcpus": 0}]
    result = run(tmp_path, vms=vms, defaults={"memory": 7, "vcpu": 2, "state": "on"})
    assert result["msg"].splitlines()[1:] == [
        "- defaults.vcpu: is no option; vcpus is",
        "- defaults.state: 'on' must be one of present, running, stopped, paused, saved, restarted, absent",
        "- vms[1] (b): vcpus: must be at least 1",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "one of the following is required: vms, vms_dir, selector"),
        (
            {"vms": [], "selector": {"names": ["a"]}, "state": "running"},
            "parameters are mutually exclusive: vms|vms_dir|selector",
        ),
        ({"vms": [], "vms_dir": "x"}, "parameters are mutually exclusive: vms|vms_dir|selector"),
        (
            {"vms": [], "purge": "remove", "max_parallel": 0, "state": "running"},
            "state: is for those of selector; say it in the declarations, or in defaults; "
            "scope: purge remove needs tags or hypervisors to keep to; "
            "purge_limit: purge remove needs it: the most virtual machines that may be removed; "
            "max_parallel: must be at least 1",
        ),
        (
            {"selector": {}, "purge": "report", "limit": {"names": ["a"]}},
            "selector: give tags, hypervisors, states or names; names: ['*'] are all; "
            "selector: give state, or hypervisor, or both, for what is to become of those that it selects; "
            "purge: is for declarations, not for selector; "
            "limit: is for declarations; selector takes hypervisors, names and tags itself",
        ),
        (
            {"vms": [], "purge": "remove", "purge_limit": 1, "scope": {"tags": [], "hypervisors": ["hv1"]}},
            "scope.tags: is empty; name at least one, or leave it out",
        ),
        (
            {"vms": [], "limit": {"names": [], "hypervisors": " , "}},
            "limit.hypervisors: is empty; name at least one, or leave it out; "
            "limit.names: is empty; name at least one, or leave it out",
        ),
        (
            {"selector": {"states": [], "names": ["*"]}, "state": "stopped"},
            "selector.states: is empty; name at least one, or leave it out",
        ),
    ],
)
def test_options_that_do_not_go_together(tmp_path, options, message):
    assert run(tmp_path, **options)["msg"] == message


def test_what_is_right_goes_on_to_the_platform(tmp_path):
    write(tmp_path / "vms", a_yml="name: a\n")
    assert "cannot be reached" in run(tmp_path, vms_dir="vms", defaults={"memory": "1GiB", "tags": ["x"]})["msg"]
