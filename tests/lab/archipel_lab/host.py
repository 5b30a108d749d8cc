# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""One host of the lab: an overlay on the base image, booted by systemd-nspawn in a cgroup of its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

from . import machine
from .process import LabError, mounted, run, wait_until
from .topology import DOMAIN, HOSTS, HYPERVISORS, PREFIX_LENGTH, Lab

# A hybrid hierarchy wants the host in both trees, or units of the same name in two hosts share one cgroup.
CGROUP_TREES = (Path("/sys/fs/cgroup/systemd"), Path("/sys/fs/cgroup/unified"))
# bindfs looks like a cluster file system to libvirt, which then sees live migration as safe and leaves the
# ownership of a disk to the host that runs it. systemd takes it for one as well: wanted by local-fs.target, it would
# wait for the network and the network for it.
VM_MOUNT = """[Unit]
Description=Storage shared by the lab's hypervisors

[Mount]
What=/srv/vm
Where=/vm
Type=fuse.bindfs
Options=subtype=glusterfs,allow_other,dev,suid,_netdev

[Install]
WantedBy=remote-fs.target
"""


class Host:
    """One host; the machine's process table and mounts are asked each time, so nothing can be stale."""

    def __init__(self, lab: Lab, name: str) -> None:
        if name not in HOSTS:
            raise LabError(f"no host {name}: the lab has {', '.join(HOSTS)}")
        self.lab = lab
        self.name = name
        self.machine = lab.machine(name)
        self.directory = lab.directory(name)
        self.root = self.directory / "root"

    # The process

    def _cgroups(self) -> list[Path]:
        trees = [tree for tree in CGROUP_TREES if tree.is_dir()] or [Path("/sys/fs/cgroup")]
        return [tree / f"lab-{self.machine}" for tree in trees]

    def _processes(self) -> list[int]:
        """Every process in the host's cgroups, as this machine numbers them."""
        pids = set()
        for group in self._cgroups():
            for walk in os.walk(group):
                try:
                    pids.update(int(pid) for pid in Path(walk[0], "cgroup.procs").read_text().split())
                except OSError:
                    continue  # a cgroup that its systemd has just removed
        return sorted(pids)

    def supervisor(self) -> int | None:
        """The process id of the host's systemd-nspawn, found by cgroup and command line."""
        for pid in self._processes():
            try:
                command = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            except OSError:
                continue  # a process that has just ended
            if command[0].endswith("systemd-nspawn") and f"--machine={self.machine}" in command:
                return pid
        return None

    def answers(self) -> bool:
        """Whether the host's SSH server greets."""
        try:
            with socket.create_connection((self.lab.address(self.name), 22), timeout=1) as connection:
                return connection.recv(4).startswith(b"SSH-")
        except OSError:
            return False

    def start(self, base: Path) -> None:
        """Boot the host; one that runs is left alone."""
        if self.supervisor() is None:
            self._kill()
            self._prepare(base)
            self._boot()

    def _boot(self) -> None:
        command = [
            *("systemd-nspawn", "--quiet", "--keep-unit", "--register=no", "--link-journal=no", "--resolv-conf=off"),
            *(f"--directory={self.root}", f"--machine={self.machine}", f"--hostname={self.name}"),
            *(f"--network-bridge={self.lab.bridge}", "--capability=all", "--kill-signal=SIGRTMIN+3"),
            *("--bind=/dev/net/tun", "--boot"),
        ]
        if self.name in HYPERVISORS:
            command[-1:-1] = ["--bind=/dev/fuse", f"--bind={self.lab.shared}:/srv/vm"]
        for group in self._cgroups():
            group.mkdir(exist_ok=True)
        joins = "".join(f"echo $$ > '{group}/cgroup.procs' && " for group in self._cgroups())
        # nspawn tells by 133 that the host wants to reboot.
        script = f'{joins} while "$@"; [ $? = 133 ]; do :; done'
        with (self.directory / "console.log").open("wb") as console:
            subprocess.Popen(
                ["sh", "-c", script, "lab-host", *command],
                # With the host's own unified hierarchy qemu needs no cgroup settings of its own.
                env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def stop(self) -> None:
        """Power the host off, in the end by force, and remove its cgroups; the disk stays."""
        pid = self.supervisor()
        if pid is not None:
            # nspawn passes SIGTERM on as its --kill-signal: the host's systemd powers off.
            os.kill(pid, signal.SIGTERM)
            try:
                wait_until(lambda: self.supervisor() is None, f"{self.name} powers off", 20)
            except LabError:
                os.kill(pid, signal.SIGKILL)
        self._kill()

    def _kill(self) -> None:
        """End what is left in the host's cgroups and remove them."""
        for pid in self._processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        wait_until(lambda: not self._processes(), f"processes of {self.name} end", 10)
        for group in self._cgroups():
            if group.is_dir():
                for directory in sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True):
                    directory.rmdir()
                group.rmdir()

    # The disk

    def remove(self) -> None:
        """Stop the host and delete its disk."""
        self.stop()
        if mounted(self.root):
            run(["umount", self.root])
        if self.directory.exists():
            shutil.rmtree(self.directory)

    def _prepare(self, base: Path) -> None:
        """Mount the disk and write what makes the base image this host; done again at each start."""
        upper, work = self.directory / "upper", self.directory / "work"
        for directory in (upper, work, self.root):
            directory.mkdir(parents=True, exist_ok=True)
        if not mounted(self.root):
            layers = f"lowerdir={base},upperdir={upper},workdir={work}"
            run(["mount", "-t", "overlay", "overlay", "-o", layers, self.root])
        if not (upper / "etc/machine-id").exists():
            # Any other content makes systemd apply presets, which enable sockets that libvirtd can't serve yet.
            self._write("etc/machine-id", run(["systemd-id128", "new"]))
            run(["ssh-keygen", "-A", "-f", self.root])
        self._write("etc/hostname", f"{self.name}\n")
        self._write("etc/hosts", self._hosts())
        self._write("etc/systemd/network/10-lab.network", self._network())
        self._write("etc/resolv.conf", self._resolver())
        self._write("root/.ssh/authorized_keys", self.lab.key.with_suffix(".pub").read_text(), 0o600)
        self._write("etc/apt/apt.conf.d/90lab", machine.acquire_options())
        bundle = Path("/etc/ssl/certs/ca-certificates.crt")
        if bundle.exists():
            self._write("etc/ssl/certs/ca-certificates.crt", bundle.read_text())
        if self.name in HYPERVISORS:
            self._write("etc/systemd/system/vm.mount", VM_MOUNT)
            run(["systemctl", f"--root={self.root}", "--quiet", "enable", "vm.mount"])

    def _write(self, path: str, text: str, mode: int = 0o644) -> None:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700 if mode == 0o600 else 0o755)
        target.unlink(missing_ok=True)
        target.write_text(text)
        target.chmod(mode)

    def _hosts(self) -> str:
        """All hosts under their short and full names; the XMPP domain is the xmpp host."""
        aliases = {"xmpp": f" {DOMAIN}"}
        names = "".join(f"{self.lab.address(host)} {host}.{DOMAIN} {host}{aliases.get(host, '')}\n" for host in HOSTS)
        return f"127.0.0.1 localhost\n::1 localhost\n{names}"

    def _network(self) -> str:
        return (
            "[Match]\nName=host0\n\n"
            f"[Network]\nAddress={self.lab.address(self.name)}/{PREFIX_LENGTH}\nGateway={self.lab.gateway}\n"
            "LinkLocalAddressing=no\nIPv6AcceptRA=no\n"
        )

    def _resolver(self) -> str:
        """The machine's name servers; systemd-resolved's own address serves only this machine."""
        upstream = Path("/run/systemd/resolve/resolv.conf")
        return (upstream if upstream.exists() else Path("/etc/resolv.conf")).read_text()
