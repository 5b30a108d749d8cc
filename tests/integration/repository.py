# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""A repository of desired state: files of declarations, an inventory, and the playbooks that a person runs on them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
# Longer than any converge of these tests.
PATIENCE = 300
_CONVERGE = ("-i", "localhost,", "play.yml")


class Repository:
    """Declarations, one a file, in ``folder``; ``defaults`` count for all of them."""

    def __init__(self, platform, folder: Path, defaults: dict) -> None:
        self._folder = folder
        self._vms = folder / "vms"
        self._vms.mkdir()
        self._environment = {
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_HOME": str(ROOT / ".ansible"),
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".ansible" / "collections"),
            "ARCHIPEL_JID": f"automation@{platform.domain}",
            "ARCHIPEL_PASSWORD": platform.password("automation"),
            "ARCHIPEL_SERVER": platform.address(platform.xmpp),
            "ARCHIPEL_CA_FILE": platform.ca_file,
        }
        task = {"vms_dir": "vms", "defaults": defaults}
        result = {"content": "{{ done | to_json }}", "dest": str(folder / "result.json"), "mode": "0600"}
        tasks = [
            {"archipel.platform.archipel_fleet": task, "register": "done", "ignore_errors": True},
            {"ansible.builtin.copy": result, "check_mode": False, "diff": False},
        ]
        play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks}
        play["vars"] = {"ansible_python_interpreter": sys.executable}
        (folder / "play.yml").write_text(yaml.safe_dump([play]))
        variables = {"archipel_vms_dir": "vms", "archipel_defaults": defaults, "archipel_purge": "report"}
        variables["archipel_scope"] = {"tags": defaults["tags"]}
        hosts = {"hypervisors": {"hosts": dict.fromkeys(platform.hypervisors)}}
        inventory = {"all": {"children": hosts, "vars": variables}}
        (folder / "hosts.yml").write_text(yaml.safe_dump(inventory))

    def declare(self, vms: list[dict]) -> None:
        """Makes ``vms`` all the declarations that there are."""
        for path in self._vms.iterdir():
            path.unlink()
        for vm in vms:
            (self._vms / f"{vm['name']}.yml").write_text(yaml.safe_dump(vm))

    def converge(self, check: bool = False) -> dict:
        """The result of the task."""
        result = self._folder / "result.json"
        result.unlink(missing_ok=True)
        with self._start(*_CONVERGE, *(["--check"] if check else [])) as play:
            output, dummy = play.communicate(timeout=PATIENCE)
        assert play.returncode == 0, output
        found = json.loads(result.read_text())
        assert "summary" in found, found
        # The line that people read.
        assert f"{'plan' if check else 'done'}: {found['summary']}" in output
        return found

    def play(self, name: str, *options: str) -> tuple[int, str]:
        """Runs archipel.platform.<name>; its exit code, and what it printed."""
        with self._start("-i", "hosts.yml", f"archipel.platform.{name}", *options) as play:
            output, dummy = play.communicate(timeout=PATIENCE)
        return play.returncode, output

    def drift(self, *options: str) -> tuple[int, dict, str]:
        """What archipel.platform.drift reports, of which nothing is allowed: exit code, report, what it printed."""
        report = self._folder / "drift.json"
        report.unlink(missing_ok=True)
        wanted = {"archipel_drift_report": str(report), "archipel_drift_fail": True}
        code, output = self.play("drift", "-e", json.dumps(wanted), *options)
        assert report.exists(), output
        return code, json.loads(report.read_text()), output

    def interrupt(self, seconds: float) -> bool:
        """Begins to converge, and kills all processes of it after ``seconds``; whether there was anything to kill."""
        play = self._start(*_CONVERGE)
        try:
            play.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(play.pid, signal.SIGKILL)
            play.communicate()
        return play.returncode != 0

    def _start(self, *options: str) -> subprocess.Popen:
        return subprocess.Popen(
            ["ansible-playbook", *options],
            cwd=self._folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
