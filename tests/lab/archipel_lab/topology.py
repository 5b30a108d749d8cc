# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Names, addresses and paths of one lab. All follow from the checkout's real path and the scenario."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[3]
STATE_ROOT = Path("/var/lib/archipel-lab")
CACHE_ROOT = Path("/var/cache/archipel-lab")
DOMAIN = "archipel.test"
PREFIX_LENGTH = 24
# Host name to the last byte of its address; .1 is the bridge.
HOSTS = {"xmpp": 10, "hv1": 11, "hv2": 12}
GROUPS = {"xmpp_servers": ["xmpp"], "hypervisors": ["hv1", "hv2"]}
HYPERVISORS = frozenset(GROUPS["hypervisors"])


@dataclass(frozen=True)
class Lab:
    """One set of hosts: a checkout's, for one scenario."""

    scenario: str
    checkout: Path = CHECKOUT

    @property
    def digest(self) -> bytes:
        return hashlib.sha256(f"{self.checkout}\0{self.scenario}".encode()).digest()

    @property
    def id(self) -> str:
        """Six hexadecimal digits: interface names (vb-ID-xmpp) have at most 15 characters."""
        return self.digest.hex()[:6]

    @property
    def bridge(self) -> str:
        return f"lab-{self.id}"

    @property
    def network(self) -> str:
        """First three bytes of the lab's /24; 10.100 to 10.199 stays clear of the usual ends of 10/8."""
        return f"10.{100 + self.digest[3] % 100}.{self.digest[4]}"

    @property
    def subnet(self) -> str:
        return f"{self.network}.0/{PREFIX_LENGTH}"

    @property
    def gateway(self) -> str:
        return f"{self.network}.1"

    def address(self, host: str) -> str:
        return f"{self.network}.{HOSTS[host]}"

    def machine(self, host: str) -> str:
        """The host's name among all labs of this machine."""
        return f"{self.id}-{host}"

    @property
    def state(self) -> Path:
        return STATE_ROOT / self.id

    def directory(self, host: str) -> Path:
        """Where a host has its disk; it is there from the host's first start to its removal."""
        return self.state / "hosts" / host

    @property
    def origin(self) -> Path:
        """The file that names the checkout and the scenario, for a person and for `abandoned`."""
        return self.state / "origin"

    @property
    def lock(self) -> Path:
        return STATE_ROOT / f"{self.id}.lock"

    @property
    def key(self) -> Path:
        """The private SSH key that root of every host accepts."""
        return self.state / "ssh" / "id_ed25519"

    @property
    def shared(self) -> Path:
        """What the hypervisors see as /vm."""
        return self.state / "vm"

    @property
    def ssh_options(self) -> list[str]:
        """Hosts are made anew, so their keys are not remembered; one connection serves many tasks."""
        return [
            "-oStrictHostKeyChecking=no",
            "-oUserKnownHostsFile=/dev/null",
            "-oLogLevel=ERROR",
            "-oConnectTimeout=10",
            "-oServerAliveInterval=5",
            "-oControlMaster=auto",
            f"-oControlPath={self.state}/ssh/%h",
            "-oControlPersist=60",
        ]

    @classmethod
    def abandoned(cls) -> list[Lab]:
        """Labs whose checkout was deleted without a `down` before."""
        labs = []
        for path in STATE_ROOT.glob("*/origin"):
            checkout, _newline, scenario = path.read_text().rstrip("\n").partition("\n")
            if scenario and not Path(checkout).exists():
                labs.append(cls(scenario, Path(checkout)))
        return labs

    def hosts(self) -> list[str]:
        """The hosts that were brought up and not removed; all of them where there is none."""
        return [host for host in HOSTS if self.directory(host).exists()] or list(HOSTS)

    def inventory(self) -> dict:
        """Ansible's inventory in the form that a script prints for --list."""
        variables = {
            host: {
                "ansible_host": self.address(host),
                "ansible_user": "root",
                "ansible_ssh_private_key_file": str(self.key),
                "ansible_ssh_common_args": " ".join(self.ssh_options),
                "ansible_python_interpreter": "/usr/bin/python3",
            }
            for host in self.hosts()
        }
        groups = {name: {"hosts": [host for host in hosts if host in variables]} for name, hosts in GROUPS.items()}
        return {**groups, "_meta": {"hostvars": variables}}
