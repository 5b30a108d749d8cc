# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""A repository of desired state: files of declarations, an inventory, and the playbooks that a person runs on them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import typing as t
from pathlib import Path

import yaml
from people import until

ROOT = Path(__file__).resolve().parents[2]
# Longer than any converge of these tests.
PATIENCE = 300
_CONVERGE = ("-i", "localhost,", "play.yml")


class Repository:
    """Declarations, one a file, in ``folder``; ``defaults`` count for all of them, ``options`` for converge()."""

    def __init__(self, platform, folder: Path, defaults: dict, **options: object) -> None:
        self._folder = folder
        self._begun: subprocess.Popen | None = None
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
        task = {"vms_dir": "vms", "defaults": defaults, **options}
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
        self.begin(check)
        return self.end(check)

    def begin(self, check: bool = False) -> None:
        """Begins to converge."""
        (self._folder / "result.json").unlink(missing_ok=True)
        with open(self._folder / "output", "w") as output:
            self._begun = self._start(*_CONVERGE, *(["--check"] if check else []), output=output)

    def printed(self, pattern: str) -> None:
        """Returns when a line with ``pattern`` has been printed since begin(), which has to come."""
        self.until(lambda: re.search(pattern, self._output(), re.M) is not None)

    def until(self, condition: t.Callable[[], bool]) -> None:
        """Returns when ``condition`` is true, which has to be before the end of what begin() began."""

        def look() -> bool:
            ended = self._begun.poll() is not None
            found = condition()
            assert found or not ended, self._output()
            return found

        until(look, PATIENCE)

    def end(self, check: bool = False) -> dict:
        """The result of what begin() began."""
        self._begun.wait(PATIENCE)
        output = self._output()
        assert self._begun.returncode == 0, output
        found = json.loads((self._folder / "result.json").read_text())
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

    def inventory(self, **source: object) -> dict:
        """What the inventory plugin makes of a source with these options."""
        path = self._folder / "archipel.yml"
        path.write_text(yaml.safe_dump({"plugin": "archipel.platform.archipel", **source}))
        command = ["ansible-inventory", "-i", str(path), "--list"]
        found = subprocess.run(command, cwd=self._folder, env=self._environment, check=True, stdout=subprocess.PIPE)
        return json.loads(found.stdout)

    def interrupt(self, done: int, seconds: float) -> bool:
        """Begins to converge, and kills all processes of it ``seconds`` after it has told of the end of ``done``.

        Whether there was anything to kill.
        """
        self.begin()
        told = re.compile(r"^(\S+): (?!moves |copies |is waited )", re.M)
        until(lambda: len(set(told.findall(self._output()))) >= done or self._begun.poll() is not None, PATIENCE)
        time.sleep(seconds)
        self.close()
        return self._begun.returncode == -signal.SIGKILL

    def close(self) -> None:
        """Kills what begin() began, if end() has not seen its end, which is no error of its own."""
        if self._begun is not None and self._begun.poll() is None:
            os.killpg(self._begun.pid, signal.SIGKILL)
            self._begun.wait()

    def _output(self) -> str:
        return (self._folder / "output").read_text()

    def _start(self, *options: str, output: t.IO[str] | int = subprocess.PIPE) -> subprocess.Popen:
        return subprocess.Popen(
            ["ansible-playbook", *options],
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
