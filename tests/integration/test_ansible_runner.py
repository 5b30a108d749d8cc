# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs as AWX runs them: by ansible-runner, in an environment that has what an execution environment of ours has.

The environment is a virtual one with Ansible, ansible-runner and what ansible-builder finds that the collection needs,
and nothing else. Credentials come as AWX injects them: in the environment and in extra variables.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).with_name("ansible_runner")
COLLECTIONS = ROOT / ".ansible" / "collections"
MODULES = yaml.safe_load((ROOT / "meta" / "runtime.yml").read_text())["action_groups"]["archipel"]
SECRET = "wrench-galaxy-42"
VM = {"name": "test-runner-3", "hypervisor": "hv1", "memory": "64MiB"}


@pytest.fixture(scope="session")
def programs(tmp_path_factory):
    """The folder with ansible-runner and ansible-playbook of the environment."""
    folder = tmp_path_factory.mktemp("execution-environment")
    needed = folder / "needed.txt"
    builder = Path(sys.executable).with_name("ansible-builder")
    subprocess.run([builder, "introspect", COLLECTIONS, f"--write-pip={needed}"], check=True, capture_output=True)
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pip = [folder / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    frozen = ["--constraint", ROOT / "requirements" / "dev.txt"]
    subprocess.run([*pip, *frozen, "ansible-core", "ansible-runner", "--requirement", needed], check=True)
    yield folder / "bin"
    shutil.rmtree(folder)


@pytest.fixture
def job(programs, platform, tmp_path):
    """Runs a playbook with these injected variables; (exit code, events, all that the job tells)."""

    def run(playbook, environment, variables, sources):
        for name in ("env", "inventory", "project"):
            (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / "env/envvars").write_text(json.dumps(environment))
        (tmp_path / "env/extravars").write_text(json.dumps(variables))
        for name, content in sources.items():
            (tmp_path / "inventory" / name).write_text(yaml.safe_dump(content))
        if (HERE / playbook).is_file():
            shutil.copy(HERE / playbook, tmp_path / "project")
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("ARCHIPEL", "ANSIBLE"))}
        path = {"PATH": f"{programs}:{os.environ['PATH']}", "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS)}
        ident = uuid.uuid4().hex
        command = [programs / "ansible-runner", "run", tmp_path, "--playbook", playbook, "--ident", ident, "-vvv"]
        done = subprocess.run(command, env={**clean, **path}, capture_output=True, text=True, check=False)
        artifacts = tmp_path / "artifacts" / ident
        texts = [path.read_text() for path in sorted((artifacts / "job_events").glob("*.json"))]
        told = "\n".join([done.stdout, done.stderr, (artifacts / "stdout").read_text(), *texts])
        return done.returncode, [json.loads(text) for text in texts], told

    return run


def connection(platform, password):
    """The environment that the credential type of playbooks/awx makes, with a name of each option."""
    return {
        "ARCHIPEL_JID": f"automation@{platform.domain}",
        "ARCHIPEL_PASSWORD": password,
        "ARCHIPEL_SERVER": platform.address(platform.xmpp),
        "ARCHIPEL_PORT": "5222",
        "ARCHIPEL_CA_FILE": platform.ca_file,
        # Set and empty, as AWX sets what nobody has filled in.
        "ARCHIPEL_TIMEOUT": "",
    }


def secrets_in(text, *secrets):
    return [secret for secret in secrets if secret in text]


def test_every_module_runs_and_tells_no_secret(platform, job):
    automation, admin = platform.password("automation"), platform.password("admin")
    code, events, told = job(
        "modules.yml",
        connection(platform, automation),
        {"admin_jid": f"admin@{platform.domain}", "admin_password": admin, "secret": SECRET},
        {"platform.archipel.yml": {"plugin": "archipel.platform.archipel"}},
    )
    assert code == 0, told[:20000]
    actions = {event.get("event_data", {}).get("resolved_action") for event in events}
    assert {f"archipel.platform.{module}" for module in MODULES} <= actions
    assert secrets_in(told, automation, admin, SECRET, SECRET[:8]) == []


def test_a_playbook_takes_the_credential_from_extra_variables(platform, job):
    password = platform.password("automation")
    variables = {name.lower(): value for name, value in connection(platform, password).items() if value}
    declared = {"all": {"vars": {"archipel_vms": [VM]}}}
    # The first one removes what an earlier run, that was killed, has left.
    for state, changed in (("absent", None), ("present", True), ("present", False), ("absent", True)):
        declared["all"]["vars"]["archipel_vms"] = [{**VM, "state": state}]
        code, events, told = job("archipel.platform.converge", {}, variables, {"hosts.yml": declared})
        assert code == 0, told[:20000]
        (stats,) = [event["event_data"] for event in events if event["event"] == "playbook_on_stats"]
        assert changed in (None, bool(stats["changed"]))
        assert secrets_in(told, password) == []


def test_a_job_that_fails_tells_no_secret(platform, job):
    wrong = "not-the-password-1"
    code, dummy, told = job(
        "archipel.platform.drift",
        connection(platform, wrong),
        {},
        {"hosts.yml": {"all": {"vars": {"archipel_vms": [VM]}}}},
    )
    assert code != 0
    assert "refused the login" in told
    assert secrets_in(told, wrong) == []


def test_declarations_that_fail_tell_no_secret(platform, job):
    """Whether they are wrong or libvirt refuses them: error texts are made of what was declared."""
    password = platform.password("automation")
    code, events, told = job("failing.yml", connection(platform, password), {"secret": SECRET}, {})
    assert code == 0, told[:20000]
    failed = [event["event_data"]["task"] for event in events if event["event"] == "runner_on_failed"]
    assert len(failed) == 7
    assert secrets_in(told, password, SECRET, SECRET[:8]) == []
