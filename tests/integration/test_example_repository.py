# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""inventories/example with the lab's names: what its CI does to a site, and what its README has people do.

Of the virtual machines only the database's gets more than the example says, a guest: it is waited for.
"""

from __future__ import annotations

import concurrent.futures
import json
import shutil
from pathlib import Path

import gitlab_ci
import pytest
import yaml
from test_archipel_waiting import OPEN

ROOT = Path(__file__).resolve().parents[2]
VMS = ("db", "web-1", "web-2")
PASSWORD = "of the example's Vault"
GUEST = """\
kernel: /vm/guest/vmlinuz
initrd: /vm/guest/initrd
cmdline: edd=off console=tty0 console=ttyS0
serials:
  - type: pty
"""


class Site:
    """The site of berlin in a copy of the example, moved to the lab."""

    def __init__(self, platform, repository: Path) -> None:
        self.platform, self.repository = platform, repository
        self.password = platform.password("automation")
        shutil.copytree(ROOT / "inventories" / "example", repository)
        self.site = repository / "sites" / "berlin"
        names = dict(zip(("kvm1", "kvm2"), platform.hypervisors))
        names |= {"xmpp.{{ archipel_domain }}": platform.address(platform.xmpp), "berlin.example.org": platform.domain}
        for path in self.site.rglob("*.*"):
            text = path.read_text()
            for name, new in names.items():
                text = text.replace(name, new)
            path.write_text(text)
        shutil.copy(platform.ca_file, self.site / "ca.pem")
        (self.site / "vault.yml").write_text(f"archipel_password: {self.password}\n")
        self.key = repository.parent / "vault-password"
        self.key.write_text(PASSWORD)
        done = self.run(f"ansible-vault encrypt --vault-id berlin@{self.key} sites/berlin/vault.yml")
        assert done.returncode == 0, done.stderr
        with open(self.site / "vms" / "db.yml", "a") as declaration:
            declaration.write(GUEST)
        # What has no operating system does not shut down when it is asked to.
        common = self.site / "group_vars" / "all" / "vms.yml"
        common.write_text(common.read_text().replace("\n  state: running\n", "\n  state: running\n  force: true\n"))

    def run(self, *lines: str) -> gitlab_ci.subprocess.CompletedProcess:
        return gitlab_ci.shell(self.repository, *lines)

    def ci(self, name: str) -> tuple[int, str]:
        """A job of the CI: its exit code, and what it printed."""
        return self._told(gitlab_ci.job(self.repository, name, "berlin", VAULT_PASSWORD_BERLIN=str(self.key)))

    def play(self, name: str, *options: str) -> tuple[int, str]:
        """As the README has people run a playbook."""
        site = f"-i sites/berlin/hosts.yml -e @sites/berlin/vault.yml --vault-id berlin@{self.key}"
        return self._told(self.run(f"ansible-playbook {site} playbooks/{name}.yml {' '.join(options)}"))

    def drift(self) -> dict:
        """The report that the CI keeps."""
        return json.loads((self.repository / "drift.json").read_text())

    def states(self) -> dict[str, tuple[str, str]]:
        """The machines that there are: their hypervisor and libvirt's word for their state."""
        return {
            name: (host, self.platform.run(host, f"virsh domstate {name}").strip())
            for host in self.platform.hypervisors
            for name in self.platform.run(host, "virsh list --all --name").split()
            if name in VMS
        }

    def remove(self) -> None:
        shutil.rmtree(self.site / "vms")
        (self.site / "vms").mkdir()
        for name in VMS:
            declared = {"name": name, "state": "absent", "remove_disks": "owned"}
            (self.site / "vms" / f"{name}.yml").write_text(yaml.safe_dump(declared))
        code, told = self.ci("converge")
        assert code == 0 and self.states() == {}, told

    def _told(self, done) -> tuple[int, str]:
        text = done.stdout + done.stderr
        assert self.password not in text and PASSWORD not in text
        return done.returncode, text


@pytest.fixture(scope="module")
def site(platform, tmp_path_factory):
    site = Site(platform, tmp_path_factory.mktemp("example") / "repository")
    yield site
    site.remove()


def test_its_ci_plans_converges_and_looks_for_drift(platform, site):
    one, other = platform.hypervisors[:2]
    code, told = site.ci("lint")
    assert code == 0, told
    code, told = site.ci("plan")
    assert code == 0 and "plan: create 3" in told, told
    assert site.states() == {}

    with concurrent.futures.ThreadPoolExecutor() as beside:
        converging = beside.submit(site.ci, "converge")
        # The database's guest gets its agent; nothing happens where there is none after all.
        platform.run(one, "timeout 120 sh -c 'until virsh -q domstate db 2>&1 | grep -q running; do sleep 1; done'")
        assert "web-1" not in site.states()
        platform.run(one, OPEN % "db")
        code, told = converging.result()
    assert code == 0 and "done: created 3" in told, told
    assert site.states() == {"db": (one, "running"), "web-1": (one, "running"), "web-2": (other, "running")}
    # What all of them have in common is said in one place, and in none of their files.
    for name, (host, _state) in site.states().items():
        assert platform.run(host, f"virsh dominfo {name} | grep -c 'Autostart: *enable'").strip() == "1"
        assert "network" in platform.run(host, f"virsh domiflist {name}")

    code, told = site.ci("converge")
    assert code == 0 and "done: unchanged 3" in told and "changed=0" in told, told
    code, told = site.ci("drift")
    assert code == 0 and site.drift()["summary"] == "no drift: 3 virtual machines are as they are declared", told

    platform.run(other, "virsh setvcpus web-2 1 --config && virsh autostart --disable web-2")
    code, told = site.ci("drift")
    (found,) = site.drift()["vms"]
    assert code == 2 and (found["name"], found["hypervisor"]) == ("web-2", other), told
    assert (found["before"]["autostart"], found["after"]["autostart"]) == (False, True)
    # A merge request shows it, what follows the merge mends it.
    code, told = site.ci("plan")
    assert code == 0 and "plan: change 1, unchanged 2" in told, told
    code, told = site.ci("converge")
    assert code == 0, told
    assert site.ci("drift")[0] == 0


def test_people_limit_what_they_do(platform, site):
    """To hypervisors, names and tags, as the README has it; what a site's declarations have in common counts always."""
    one, other = platform.hypervisors[:2]
    domain = platform.domain
    code, told = site.play("group", "-e archipel_group_tags=web -e archipel_group_state=stopped")
    assert code == 0 and "done: stopped 2" in told, told
    assert site.states() == {"db": (one, "running"), "web-1": (one, "shut off"), "web-2": (other, "shut off")}

    report = site.site / "drift.json"
    for limit, drifted in (
        ("", ["web-1", "web-2"]),
        (f"--limit {one}.{domain}", ["web-1"]),
        ("-e archipel_limit_tags=web", ["web-1", "web-2"]),
        ("-e archipel_limit_tags=database", []),
        ("-e archipel_limit_names=web-2", ["web-2"]),
        (f"--limit {one}.{domain} -e archipel_limit_names=web-2", []),
    ):
        code, told = site.play("drift", "-e archipel_drift_report=drift.json", limit)
        assert (code, sorted(vm["name"] for vm in json.loads(report.read_text())["vms"])) == (0, drifted), told
        report.unlink()

    code, told = site.play("converge", f"--limit {one}.{domain} -e archipel_limit_names='web-*' --check --diff")
    assert code == 0 and "plan: start 1" in told, told
    code, told = site.play("converge", f"--limit {one}.{domain} -e archipel_limit_names='web-*'")
    assert code == 0 and "done: started 1" in told, told
    assert site.states() == {"db": (one, "running"), "web-1": (one, "running"), "web-2": (other, "shut off")}
    code, told = site.play("converge", "-e archipel_limit_tags=web")
    assert code == 0 and site.states()["web-2"] == (other, "running"), told
    # Tags of Ansible's are the site's; these playbooks have none, and do nothing where others are asked for.
    code, told = site.play("converge", "--tags ejabberd")
    assert code == 0 and "TASK" not in told, told
