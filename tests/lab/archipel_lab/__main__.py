# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The command line of the lab."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys

from . import cloud_guest, guest, image, machine, network
from .host import Host
from .process import LabError, locked, run, say, wait_until
from .topology import DOMAIN, HOSTS, HYPERVISORS, Lab

RELEASES = ("bookworm", "trixie")


def up(lab: Lab, args: argparse.Namespace) -> None:
    """Bring all hosts up, or those that are named; what runs already is left alone."""
    hosts = args.hosts or list(HOSTS)
    machine.need(machine.TOOLS)
    machine.raise_limits()
    for other in Lab.abandoned():
        down(other, args)
    with locked(lab.lock):
        release = _release(lab, args.release)
        base = image.base(release)
        if not lab.key.with_suffix(".pub").exists():
            lab.key.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            lab.key.unlink(missing_ok=True)
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", lab.bridge, "-f", lab.key])
        lab.shared.mkdir(parents=True, exist_ok=True)
        if HYPERVISORS.intersection(hosts):
            guest.install(lab.shared)
        network.up(lab)
        _start(lab, hosts, base)
    say(f"scenario {lab.scenario} ({release}) is up: " + ", ".join(f"{host} {lab.address(host)}" for host in hosts))


def _release(lab: Lab, wanted: str | None) -> str:
    """The Debian release of the hosts: chosen at the first `up`, kept until `down`."""
    if wanted and wanted not in RELEASES:
        raise LabError(f"no release {wanted}: the lab knows {', '.join(RELEASES)}")
    record = lab.state / "release"
    if record.exists():
        present = record.read_text().strip()
        if wanted and wanted != present:
            raise LabError(f"scenario {lab.scenario} is up with {present}: `down` it first")
        return present
    lab.state.mkdir(parents=True, exist_ok=True)
    lab.origin.write_text(f"{lab.checkout}\n{lab.scenario}\n")
    record.write_text(f"{wanted or RELEASES[0]}\n")
    return wanted or RELEASES[0]


def _start(lab: Lab, names: list[str], base) -> None:
    hosts = [Host(lab, name) for name in names]
    for host in hosts:
        host.start(base)
    for host in hosts:
        wait_until(host.answers, f"{host.name} answers on SSH (its console: {host.directory}/console.log)", 60)
        # Until everything that starts at boot has; the exit status also tells of failed units, which are not ours.
        run(_ssh(lab, host.name, "systemctl", "is-system-running", "--wait"), check=False)


def _ssh(lab: Lab, host: str, *command: str) -> list[str]:
    return ["ssh", "-i", str(lab.key), *lab.ssh_options, f"root@{lab.address(host)}", *command]


def down(lab: Lab, args: argparse.Namespace) -> None:
    """Remove everything `up` made, except the cache."""
    with locked(lab.lock):
        for name in HOSTS:
            Host(lab, name).remove()
        network.down(lab)
        if lab.state.exists():
            run(["rm", "-rf", "--one-file-system", lab.state])
        lab.lock.unlink(missing_ok=True)
    say(f"scenario {lab.scenario} is down")


def start(lab: Lab, args: argparse.Namespace) -> None:
    """Boot one host again after `stop`."""
    with locked(lab.lock):
        if not lab.key.exists():
            raise LabError(f"scenario {lab.scenario} is not up")
        _start(lab, [args.host], image.base(_release(lab, None)))


def stop(lab: Lab, args: argparse.Namespace) -> None:
    """Power one host off and keep its disk."""
    with locked(lab.lock):
        Host(lab, args.host).stop()
        run(["ssh", "-O", "exit", *_ssh(lab, args.host)[1:]], check=False)


def guest_with_cloud_init(lab: Lab, args: argparse.Namespace) -> None:
    """Have the hypervisors see a guest with cloud-init and QEMU's guest agent: its kernel, initrd and disk."""
    with locked(lab.lock):
        cloud_guest.install(lab.shared)


def status(lab: Lab, args: argparse.Namespace) -> None:
    """One line a host: name, address, state."""
    for name in HOSTS:
        host = Host(lab, name)
        state = "up" if host.answers() else "starting" if host.supervisor() else "down"
        print(f"{name:6}{lab.address(name):16}{state}")


def inventory(lab: Lab, args: argparse.Namespace) -> None:
    """Ansible's inventory as JSON: the hosts that were brought up, or all if none was."""
    json.dump(lab.inventory(), sys.stdout, indent=2)
    print()


def shell(lab: Lab, args: argparse.Namespace) -> None:
    """A root shell on a host, or one command there."""
    raise SystemExit(subprocess.call(_ssh(lab, args.host, *args.command)))


def env(lab: Lab, args: argparse.Namespace) -> None:
    """Shell exports with which the modules reach the platform on the lab, as its automation account."""
    ca_file = lab.state / "ca.pem"
    ca_file.write_text(_read(lab, "xmpp", "/etc/archipel/ca/ca.pem"))
    exports = {
        "ARCHIPEL_JID": f"automation@{DOMAIN}",
        "ARCHIPEL_PASSWORD": _read(lab, "xmpp", "/etc/archipel/secrets/automation").strip(),
        "ARCHIPEL_SERVER": lab.address("xmpp"),
        "ARCHIPEL_CA_FILE": ca_file,
        "ARCHIPEL_LAB_SCENARIO": lab.scenario,
    }
    for name, value in exports.items():
        print(f"export {name}={shlex.quote(str(value))}")


def _read(lab: Lab, host: str, path: str) -> str:
    if not Host(lab, host).answers():
        raise LabError(f"scenario {lab.scenario} is not up: `make lab-up` first")
    try:
        return run(_ssh(lab, host, "cat", path))
    except LabError as error:
        raise LabError(f"{host} has no {path}: `make lab-up` installs the platform") from error


def console(lab: Lab, args: argparse.Namespace) -> None:
    """The next heartbeats of a guest, read from its serial console."""
    script = f'timeout 30 grep -m {args.count} ^heartbeat "$(virsh ttyconsole {shlex.quote(args.domain)})"'
    raise SystemExit(subprocess.call(_ssh(lab, args.host, script)))


def parser() -> argparse.ArgumentParser:
    main = argparse.ArgumentParser(prog="lab", description="A lab of real hosts: xmpp, hv1, hv2.")
    main.add_argument("--scenario", default=os.environ.get("ARCHIPEL_LAB_SCENARIO") or "default")
    releases = f"Debian release of the hosts: {', '.join(RELEASES)}"
    main.add_argument("--release", default=os.environ.get("ARCHIPEL_LAB_RELEASE"), help=releases)
    commands = main.add_subparsers(required=True, metavar="COMMAND")
    for function in (up, down, status, inventory, start, stop, shell, env, console, guest_with_cloud_init):
        command = commands.add_parser(function.__name__.replace("_", "-"), help=function.__doc__)
        command.set_defaults(function=function)
        if function is up:
            command.add_argument("hosts", nargs="*", metavar="HOST", help=f"of {', '.join(HOSTS)}; default: all")
        if function in (start, stop, shell, console):
            command.add_argument("host", choices=HOSTS)
        if function is console:
            command.add_argument("domain")
            command.add_argument("--count", type=int, default=1)
        if function is shell:
            command.add_argument("command", nargs=argparse.REMAINDER)
    return main


def main() -> int:
    args = parser().parse_args()
    try:
        args.function(Lab(args.scenario), args)
    except LabError as error:
        say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
