# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""More hypervisors than the lab has hosts: agents beside each host's own, each with an account and a folder."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
import typing as t
from pathlib import Path

from fleet import Platform

ROOT = Path(__file__).resolve().parents[2]
# Its state is the daemon's, as long as somebody is connected. Without the socket a user would get a daemon of his own.
TEST_DRIVER = "test+unix:///default?socket=/run/libvirt/libvirt-sock"
OWN_TEST_DRIVER = "test:///default"  # its state is the agent's

_SETUP = """
set -e
install -d -o archipel -m 0700 {folder}
echo '{password}' > {folder}/password
sed -e 's#^libvirt_uri = .*#libvirt_uri = {uri}#' \
  -e 's#^archipel_folder_lib = .*#archipel_folder_lib = {folder}#' \
  -e 's#^logging_file_path = .*#logging_file_path = {folder}/log#' \
  -e 's#^hypervisor_xmpp_jid = .*#hypervisor_xmpp_jid = {node}@{domain}#' \
  -e 's#^hypervisor_xmpp_password_file = .*#hypervisor_xmpp_password_file = {folder}/password#' \
  -e '/^\\[PEERS\\]/,$d' /etc/archipel/archipel.conf > {folder}/archipel.conf
printf '%s' '{peers}' >> {folder}/archipel.conf
chown -R archipel {folder}
systemd-run -q --collect --unit archipel-{node} --uid archipel --setenv=HOME={folder} \
  /usr/bin/archipel-agent --config {folder}/archipel.conf
"""


class Agent:
    """One of them, on ``host``; ``peers`` are the nodes of the others, which it asks before it makes a machine."""

    def __init__(self, platform: Platform, host: str, node: str, uri: str, peers: t.Sequence[str] = ()) -> None:
        self.host, self.node, self.uri = host, node, uri
        self._platform = platform
        lines = [f"{peer}@{platform.domain} = qemu+tls://{host}/system" for peer in peers if peer != node]
        self._peers = "\n".join(["[PEERS]", *lines, ""])
        self._folder = f"/var/lib/archipel/{node}"

    def start(self) -> None:
        values = {"folder": self._folder, "node": self.node, "uri": self.uri, "domain": self._platform.domain}
        values.update(password=self._platform.password(self.node), peers=self._peers)
        script = _SETUP
        for name, value in values.items():
            script = script.replace(f"{{{name}}}", value)
        self._platform.run(self.host, script)

    def stop(self) -> None:
        self._platform.run(self.host, f"systemctl stop archipel-{self.node}; rm -rf {self._folder}", check=False)


def hypervisors(inventory: str, names: list[str]) -> None:
    """Has the platform know of ``names``, beside those of the inventory, and of no others."""
    known = {"ejabberd_hypervisors": ["hv1", "hv2", *names]}
    command = ["ansible-playbook", "-i", inventory, str(ROOT / "playbooks" / "site.yml"), "--tags", "ejabberd"]
    done = subprocess.run([*command, "-e", json.dumps(known)], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"the platform does not take {names}:\n{done.stdout}\n{done.stderr}")


class Watcher:
    """Of the domains that start in libvirt's test driver of a host, whose state it keeps meanwhile."""

    def __init__(self, platform: Platform, host: str) -> None:
        self._platform, self._host = platform, host
        self._folder = "/run/archipel-watcher"

    def start(self) -> None:
        script = (ROOT / "tests" / "benchmark" / "watcher.py").read_text()
        self.write("watcher.py", script)
        unit = "systemd-run -q --collect --unit archipel-watcher"
        self.run(f"{unit} python3 {self._folder}/watcher.py '{TEST_DRIVER}' {self._folder}/notes")
        self.run(f"until grep -q ready {self._folder}/notes; do sleep 0.1; done")

    def run(self, command: str) -> str:
        return self._platform.run(self._host, command)

    def write(self, name: str, content: str) -> None:
        self.run(f"install -d {self._folder}; printf %s {shlex.quote(content)} > {self._folder}/{name}")

    def stop(self) -> None:
        self.run(f"systemctl stop archipel-watcher; rm -rf {self._folder}")

    def forget(self) -> None:
        """What has started until now does not count any more."""
        self.run(f"truncate -s 0 {self._folder}/notes")

    def raw(self, uri: str, count: int, template: str) -> float:
        """Seconds that it takes to define and start ``count`` domains by libvirt's own binding, on the host."""
        self.write("template.xml", template)
        seconds = self.run(f"python3 {self._folder}/watcher.py '{uri}' raw raw- {count} {self._folder}/template.xml")
        return float(seconds)

    def started(self, prefix: str, count: int) -> float:
        """When the last of ``count`` domains had started, in seconds since 1970."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            lines = [line.split() for line in self.run(f"cat {self._folder}/notes").splitlines()]
            times = [float(when) for when, name in lines if name.startswith(prefix)]
            if len(times) >= count:
                return max(times)
            time.sleep(0.2)
        sys.exit(f"{count} machines have not started after 60 s")
