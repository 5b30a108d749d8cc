# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Declared, drifted behind its back, told, mended: the collection's playbooks as a person calls them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from people import Machine, until

ROOT = Path(__file__).resolve().parents[2]
VMS = [
    {"name": "test-drift-1", "hypervisor": "hv1", "memory": "64MiB", "vcpus": 2},
    {"name": "test-drift-2", "hypervisor": "hv2", "memory": "64MiB"},
]

GUEST = {"kernel": "/vm/guest/vmlinuz", "initrd": "/vm/guest/initrd", "cmdline": "edd=off console=ttyS0"}


@pytest.fixture
def play(platform, tmp_path):
    """Runs archipel.platform.<name> on the lab's inventory, with these declarations; (exit code, output)."""
    account = {
        "ARCHIPEL_JID": f"automation@{platform.domain}",
        "ARCHIPEL_PASSWORD": platform.password("automation"),
        "ARCHIPEL_SERVER": platform.address(platform.xmpp),
        "ARCHIPEL_CA_FILE": platform.ca_file,
    }

    def play(name, vms, *arguments):
        (tmp_path / "vms.json").write_text(json.dumps({"archipel_vms": vms}))
        inventory = os.environ.get("ARCHIPEL_LAB_INVENTORY") or str(ROOT / "inventories/lab/hosts")
        command = [Path(sys.executable).with_name("ansible-playbook"), "-i", inventory, f"archipel.platform.{name}"]
        command += ["-e", f"@{tmp_path}/vms.json", *arguments]
        environment = {**os.environ, **account}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert account["ARCHIPEL_PASSWORD"] not in done.stdout + done.stderr
        return done.returncode, done.stdout + done.stderr

    yield play
    play("converge", [{"name": one["name"], "state": "absent", "force": True} for one in VMS])


def test_drift_is_told_exactly_and_mended(platform, play, tmp_path):
    report = tmp_path / "report.json"
    reporting = ["-e", f"archipel_drift_report={report}", "-e", "archipel_drift_fail=true"]
    # To hv1's machines alone, from an inventory that has its own ways to the hypervisors.
    code, told = play("converge", VMS, "--limit", "hv1")
    assert code == 0, told
    code, told = play("drift", VMS, *reporting)
    assert code == 2 and "1 of 2 virtual machines drifted: test-drift-2" in told, told
    assert play("converge", VMS)[0] == 0
    code, told = play("drift", VMS, *reporting)
    assert code == 0 and "no drift: 2 virtual machines are as they are declared" in told, told
    platform.run("hv1", "virsh setvcpus test-drift-1 1 --config")
    code, told = play("drift", VMS, *reporting)
    assert code == 2, told
    (found,) = json.loads(report.read_text())["vms"]
    assert (found["name"], found["hypervisor"], found["error"]) == ("test-drift-1", "hv1", "")
    assert "vcpus" in found["before"] and found["before"] != found["after"]
    # Limits that nobody is in are told, and are not everything.
    code, told = play("drift", VMS, *reporting, "-e", "archipel_limit_names=tset-*")
    assert code == 0 and "nothing was compared" in told, told
    assert "limit: leaves none of the 2 declarations" in " ".join(told.split())
    code, told = play("drift", VMS, *reporting, "--limit", "hv2,localhost")
    assert code == 0 and "no drift: 1 virtual machines are as they are declared" in told, told
    code, told = play("drift", VMS, *reporting, "--limit", "xmpp,localhost")
    assert code == 2 and "--limit: 'xmpp,localhost' has no host of the group hypervisors" in " ".join(told.split()), (
        told
    )
    # Not of hv2, and allowed where nobody asked.
    assert play("drift", VMS, "--limit", "hv2", *reporting)[0] == 0
    assert play("drift", VMS)[0] == 0
    # It is told and not mended: that is what converge does.
    assert play("converge", VMS)[0] == 0
    assert play("drift", VMS, *reporting)[0] == 0


def test_what_runs_without_a_part_of_its_definition_is_told(platform, play, tmp_path):
    """One waits for its next start, of one only what runs was changed, and one is as declared."""
    report = tmp_path / "report.json"
    reporting = ["-e", f"archipel_drift_report={report}", "-e", "archipel_drift_fail=true"]
    network = {"network": "default", "mac": "52:54:00:00:dd:01", "model": "virtio"}
    vms = [{**VMS[0], "state": "running", **GUEST}, {**VMS[1], "state": "running", **GUEST, "networks": [network]}]
    assert play("converge", vms)[0] == 0
    code, told = play("drift", vms, *reporting)
    assert code == 0 and "no drift: 2 virtual machines" in told, told

    more = [{**vms[0], "memory": "80MiB"}, vms[1]]
    code, told = play("converge", more)
    assert code == 0 and "(1 needs a restart)" in told, told
    code, told = play("drift", more, *reporting)
    reason = "memory changes from 64MiB to 80MiB at the next start"
    assert code == 2 and "1 of 2 need a restart to be as they are declared: test-drift-1" in told and reason in told, (
        told
    )
    found = json.loads(report.read_text())
    assert (found["drifted"], found["pending"], found["unknown"]) == (0, 1, 0)
    assert [(one["name"], one["actions"], one["restart_required"]) for one in found["vms"]] == [
        ("test-drift-1", [], [reason])
    ]
    assert play("drift", more)[0] == 0

    platform.run("hv2", f"virsh domif-setlink test-drift-2 {network['mac']} down")
    code, told = play("drift", more, *reporting)
    assert code == 2 and "1 of 2 virtual machines drifted: test-drift-2; 1 of 2 need a restart" in told, told
    found = json.loads(report.read_text())
    assert (found["drifted"], found["pending"], found["vms"][1]["name"]) == (1, 1, "test-drift-2")
    assert found["vms"][1]["actions"] == [f"update interface[{network['mac']}]"]
    assert play("converge", more)[0] == 0
    assert play("drift", more, *reporting)[0] == 2
    found = json.loads(report.read_text())
    assert (found["drifted"], found["pending"]) == (0, 1)


def test_what_was_renamed_or_moved_behind_its_back_is_told(platform, play, tmp_path):
    """It is not taken for one that is missing, which converge would make anew."""
    report = tmp_path / "report.json"
    assert play("converge", VMS)[0] == 0
    platform.run("hv1", "virsh -q domrename test-drift-1 test-drift-1-other")
    move = "virsh -q migrate --offline --p2p --tls --persistent --undefinesource test-drift-2 qemu+tls://hv1/system"
    platform.run("hv2", move)
    try:
        code, told = play("drift", VMS, "-e", f"archipel_drift_report={report}")
        found = json.loads(report.read_text())
        print(found["table"])
        assert code == 2 and (found["drifted"], found["unknown"]) == (0, 2), told
        renamed, moved = (one["error"] for one in found["vms"])
        assert "which is that of 'test-drift-1-other' on hv1; a virtual machine is not renamed" in renamed
        assert "'test-drift-2'" in moved and "hv1" in moved
    finally:
        platform.run("hv1", "virsh -q domrename test-drift-1-other test-drift-1")
        platform.run("hv1", move.replace("hv1", "hv2"))
    until(lambda: play("drift", VMS, "-e", "archipel_drift_fail=true")[0] == 0, 60)


def test_who_is_silent_is_no_drift_and_no_proof_of_none(platform, play):
    """What is declared elsewhere is compared all the same."""
    assert play("converge", VMS[:1])[0] == 0
    options = {"archipel_purge": "report", "archipel_scope": {"hypervisors": ["hv2"]}}
    platform.run("hv2", "systemctl stop archipel-agent")
    try:
        platform.run("hv1", "virsh setvcpus test-drift-1 1 --config")
        code, told = play("drift", VMS[:1], "-e", json.dumps(options))
        assert code == 2 and "1 of 1 virtual machines drifted: test-drift-1; hv2 did not answer" in told, told
    finally:
        platform.run("hv2", "systemctl start archipel-agent")
    until(lambda: play("drift", VMS[:1], "-e", json.dumps(options))[0] == 0, 60)


def states(platform):
    """The machines of the test: their hypervisor and libvirt's word for their state."""
    return {
        name: (host, platform.run(host, f"virsh domstate {name}").strip())
        for host in ("hv1", "hv2")
        for name in platform.run(host, "virsh list --all --name").split()
        if name.startswith("test-drift-")
    }


def test_a_group_is_stopped_and_moves(platform, play):
    """And the second run, and --check, tell the truth."""
    more = {"state": "running", "tags": ["test-drift"]}
    vms = [{**VMS[0], **more, **GUEST}, {**VMS[1], **more, **GUEST}]
    assert play("converge", vms)[0] == 0

    def group(*options, **variables):
        text = json.dumps({f"archipel_group_{key}": value for key, value in variables.items()})
        # Whatever a guest has got to by now.
        code, told = play("group", [], "-e", text, "-e", '{"archipel_defaults": {"force": true}}', *options)
        assert code == 0, told
        return "changed=1" in told, told

    assert states(platform) == {"test-drift-1": ("hv1", "running"), "test-drift-2": ("hv2", "running")}
    stop = {"tags": "test-drift", "state": "stopped"}
    changed, told = group("--check", **stop)
    assert changed and "plan: stop 2" in told, told
    assert set(states(platform).values()) == {("hv1", "running"), ("hv2", "running")}
    # A list from a survey, and a limit that does not end with the hypervisor.
    changed, told = group("--limit", "hv2,localhost", **{**stop, "tags": "test-other, test-drift"})
    assert changed and "done: stopped 1" in told, told
    assert states(platform) == {"test-drift-1": ("hv1", "running"), "test-drift-2": ("hv2", "shut off")}
    assert "nothing is meant" in group(**{**stop, "tags": "test-other"})[1]
    assert group(**stop)[0] and not group(**stop)[0] and not group("--check", **stop)[0]

    move = {"names": "test-drift-*", "states": "stopped", "hypervisor": "hv2"}
    changed, told = group("--check", **move)
    assert changed and "plan: move 1, unchanged 1" in told, told
    assert states(platform)["test-drift-1"] == ("hv1", "shut off")
    assert group(**move)[0] and not group(**move)[0] and not group("--check", **move)[0]
    assert states(platform) == {"test-drift-1": ("hv2", "shut off"), "test-drift-2": ("hv2", "shut off")}


def test_a_domain_comes_under_management_where_it_is_looked_for(platform, play, domain):
    domain.define("")
    names = ["-e", json.dumps({"archipel_import_names": [domain.name]})]
    code, told = play("import", [], *names, "--limit", "hv2")
    assert code == 2 and f"has a domain '{domain.name}'" in " ".join(told.split()), told
    for state, changed in (("managed", "changed=1"), ("managed", "changed=0"), ("unmanaged", "changed=1")):
        code, told = play("import", [], *names, "-e", f"archipel_import_state={state}")
        assert code == 0 and changed in told, told


def test_domains_come_under_management_where_each_of_them_is(platform, play, domain):
    """With a limit to several hypervisors, and names as a form has them."""
    domain.define("")
    other = Machine(platform)
    other.host = "hv2"
    other.define("")
    try:
        names = ["-e", json.dumps({"archipel_import_names": f"{domain.name}, {other.name} "}), "--limit", "hv1,hv2"]
        for state, changed in (("managed", "changed=1"), ("managed", "changed=0"), ("unmanaged", "changed=1")):
            code, told = play("import", [], *names, "-e", f"archipel_import_state={state}")
            assert code == 0 and changed in told, told
    finally:
        other.remove()
