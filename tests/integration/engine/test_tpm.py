# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""A TPM that swtpm emulates, as archipel_vm declares it: a guest has it, and what it keeps goes with the machine."""

from __future__ import annotations

import os.path

from test_typed import ADMIN, request

from archipel_agent import domain_xml

BASE = {
    "memory": "64MiB",
    "machine": "q35",
    "domain_type": "qemu",
    "kernel": "/vm/guest/vmlinuz",
    "initrd": "/vm/guest/initrd",
    "cmdline": "edd=off console=ttyS0",
}
RESTART = {"allow_restart": True, "force": True, "shutdown_timeout": 1}


def test_a_guest_runs_with_a_tpm_until_it_is_taken_away(hypervisor, run, machine):
    kept = f"/var/lib/libvirt/swtpm/{machine['uuid']}/tpm2"

    def declare(creating=False, **given):
        """The guest's TPM afterwards."""
        wanted = request(machine, {**(BASE if creating else {}), "state": "running", **given}, creating=creating)
        result = run(hypervisor.apply(ADMIN, **wanted))
        assert "error" not in result and "restart_required" not in result, result
        live = domain_xml.parse_domain(run(hypervisor.dump(machine["uuid"], 1)))
        return domain_xml.attribute_of(live, "devices/tpm", "model")

    assert declare(creating=True, tpm={"model": "tpm-crb", "version": "2.0"}) == "tpm-crb"
    assert os.path.exists(kept)
    assert declare(tpm={"model": "tpm-tis", "version": "2.0"}, **RESTART) == "tpm-tis"
    assert os.path.exists(kept)
    assert declare(tpm={"model": "none"}, **RESTART) == ""
    assert declare(tpm={"model": "tpm-crb", "version": "2.0"}, **RESTART) == "tpm-crb"
    run(hypervisor.apply(ADMIN, **machine, state="absent", force=True))
    assert not os.path.exists(kept)
