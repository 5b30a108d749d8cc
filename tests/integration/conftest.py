# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tests against a platform that runs: the lab with `site.yml` applied (`make lab-up`).

ARCHIPEL_LAB_INVENTORY names an inventory script (default: the lab's). Passwords are read from the XMPP server, and
connections "from a hypervisor" really leave from its address, through SSH.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shlex
import socket
import subprocess
import time
import uuid
from pathlib import Path

import pytest
from people import HYPERVISOR, SCREEN, SECRET, Failed, Machine, Person, manage
from xmpp_stream import Refused, Stream

ROOT = Path(__file__).resolve().parents[2]


class Platform:
    """The hosts of an inventory, and the way to them."""

    domain = "archipel.test"

    def __init__(self, inventory: str, directory: Path) -> None:
        listing = json.loads(subprocess.run([inventory, "--list"], check=True, capture_output=True).stdout)
        self._variables = listing["_meta"]["hostvars"]
        self.xmpp = listing["xmpp_servers"]["hosts"][0]
        self.hypervisors = listing["hypervisors"]["hosts"]
        self.ca_file = str(directory / "ca.pem")
        Path(self.ca_file).write_text(self.run(self.xmpp, "cat /etc/archipel/ca/ca.pem"))

    def address(self, host: str) -> str:
        return self._variables[host]["ansible_host"]

    def run(self, host: str, command: str, check: bool = True) -> str:
        """What a command of root prints on a host."""
        return subprocess.run(self._ssh(host, command), check=check, capture_output=True, text=True).stdout

    def password(self, name: str) -> str:
        return self.run(self.xmpp, "cat /etc/archipel/secrets/" + shlex.quote(name)).strip()

    def stream(self, port: int = 5222, **options) -> Stream:
        """From this machine, which is no hypervisor. Options are the stream's."""
        return Stream((self.address(self.xmpp), port), self.domain, self.ca_file, **options)

    @contextlib.contextmanager
    def stream_from(self, host: str):
        """A stream that the server sees come from that host's address."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        forward = f"-L127.0.0.1:{port}:{self.address(self.xmpp)}:5222"
        tunnel = subprocess.Popen([*self._ssh(host), "-oControlPath=none", "-oExitOnForwardFailure=yes", forward, "-N"])
        try:
            _wait_for(port)
            with Stream(("127.0.0.1", port), self.domain, self.ca_file) as stream:
                yield stream
        finally:
            tunnel.terminate()
            tunnel.wait()

    def _ssh(self, host: str, *command: str) -> list[str]:
        variables = self._variables[host]
        options = shlex.split(variables.get("ansible_ssh_common_args", ""))
        key = ["-i", variables["ansible_ssh_private_key_file"]]
        # -n: ssh would have whoever shares its standard input read it without blocking, which Ansible refuses.
        return ["ssh", "-n", "-q", "-oBatchMode=yes", *options, *key, "root@" + variables["ansible_host"], *command]


def _wait_for(port: int, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


@pytest.fixture(scope="session")
def platform(tmp_path_factory) -> Platform:
    inventory = os.environ.get("ARCHIPEL_LAB_INVENTORY") or str(ROOT / "inventories/lab/hosts")
    return Platform(inventory, tmp_path_factory.mktemp("platform"))


@pytest.fixture
def machine(platform):
    """Name and password of a virtual machine's account, made by a hypervisor and removed by itself."""
    name, password = str(uuid.uuid4()), "first-password"
    with platform.stream_from(platform.hypervisors[0]) as hypervisor:
        hypervisor.login("hv1", platform.password("hv1")).register(name, password)
    yield name, password
    with platform.stream() as stream:
        try:
            stream.login(name, password)
        except Refused:
            return  # the test removed it
        stream.remove_account()


@pytest.fixture
def log_in(platform):
    """Logs somebody in, by the name of an account of the platform."""
    with contextlib.ExitStack() as stack:

        def log_in(name: str, password: str | None = None) -> Person:
            stream = stack.enter_context(platform.stream())
            stream.login(name, password or platform.password(name), uuid.uuid4().hex)
            stream.write("<presence/>")
            return Person(stream, platform.domain)

        yield log_in


@pytest.fixture
def automation(log_in):
    return log_in("automation")


@pytest.fixture
def hypervisor(platform):
    """The full JID of the first hypervisor."""
    host = platform.hypervisors[0]
    return f"{host}@{platform.domain}/{host}"


@pytest.fixture
def domain(platform):
    machine = Machine(platform)
    yield machine
    machine.remove()


@pytest.fixture
def managed(domain, automation, hypervisor):
    """A domain that the agent manages."""
    domain.define(SCREEN.format(f" passwd='{SECRET[:8]}'"))
    manage(automation, hypervisor, domain)
    yield domain
    with contextlib.suppress(Failed):
        automation.act(hypervisor, HYPERVISOR, "unmanage", f"<item jid='{domain.bare}'/>")


@pytest.fixture
def account(platform, log_in):
    """Makes an account that nothing is granted to, and logs it in; it goes with the test."""
    made = []

    def account(name: str) -> Person:
        password = secrets.token_hex(16)
        platform.run(platform.xmpp, f"ejabberdctl register {name} {platform.domain} {password}")
        made.append(name)
        return log_in(name, password)

    yield account
    for name in made:
        platform.run(platform.xmpp, f"ejabberdctl unregister {name} {platform.domain}")
