# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The base image of the hosts: bare Debian, built once and kept in the cache."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from . import debian, machine
from .process import locked, run, say
from .topology import CACHE_ROOT

# What a person finds on a host that Debian's installer left behind, and bindfs: it gives the hypervisors a shared
# file system that libvirt accepts (see host.py).
PACKAGES = (
    "systemd-sysv dbus iproute2 openssh-server python3 python3-apt sudo ca-certificates procps less "
    "iputils-ping netbase bindfs fuse3"
).split()
# Packages that the roles and `make test` install. They only lie in apt's cache, so that a role's run is quick and still
# real. By release, those that the other does not have.
DOWNLOADED = {
    "xmpp": ["ejabberd"],
    "hypervisors": (
        "libvirt-daemon-system libvirt-daemon-driver-lxc libvirt-clients python3-libvirt python3-lxml python3-slixmpp "
        "qemu-system-x86 qemu-utils netcat-openbsd gnutls-bin dnsmasq-base iptables nftables augeas-tools"
    ).split(),
    "certificates": ["openssl", "python3-cryptography"],
    "tests": ["python3-pytest"],
}
DOWNLOADED_BY_RELEASE = {"trixie": ["libvirt-daemon-plugin-lockd", "qemu-system-modules-spice"]}
# Runs in the new root as mmdebstrap's customize-hook; $1 is the root.
CUSTOMIZE = """
set -eu
rm -f "$1"/etc/ssh/ssh_host_*
printf 'force-unsafe-io\\n' > "$1"/etc/dpkg/dpkg.cfg.d/lab
chroot "$1" systemctl enable systemd-networkd ssh
chroot "$1" apt-get clean
chroot "$1" apt-get install -q -y --no-install-recommends --download-only {packages}
# Of this one, the roles install what it recommends as well.
chroot "$1" apt-get install -q -y --download-only python3-slixmpp
rm -f "$1"/etc/resolv.conf
"""


def base(release: str) -> Path:
    """The directory of the base image for `release`, built if it is not in the cache."""
    downloaded = sorted(sum(DOWNLOADED.values(), DOWNLOADED_BY_RELEASE.get(release, [])))
    recipe = "\n".join([release, *PACKAGES, *downloaded, CUSTOMIZE, machine.sources(release)])
    root = CACHE_ROOT / f"host-{release}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    with locked(CACHE_ROOT / "lock"):
        if not root.exists():
            say(f"building the base image for {release} (about two minutes, once)")
            _build(root, release, CUSTOMIZE.format(packages=" ".join(downloaded)))
    return root


def _build(root: Path, release: str, customize: str) -> None:
    """Build beside the final place and rename: what is there is complete."""
    for leftover in CACHE_ROOT.glob("host-*.partial"):
        run(["rm", "-rf", "--one-file-system", leftover])
    partial = root.with_name(root.name + ".partial")
    debian.install(partial, release, PACKAGES, customize, "--skip=cleanup/apt")
    shutil.rmtree(partial / "var/lib/apt/lists/partial", ignore_errors=True)
    os.rename(partial, root)
