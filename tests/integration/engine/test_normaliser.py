# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The process beside the daemon: what it is trusted with, its death, and life without it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile

import pytest

from archipel_agent import normaliser_client, prediction
from archipel_agent.domain_xml import parse
from archipel_agent.libvirt_facade import Libvirt
from archipel_agent.normaliser_client import Normaliser
from archipel_agent.wanted import Desired
from archipel_protocol.errors import ArchipelError, LibvirtError

TINY = (
    "<domain type='qemu'><name>engine-test</name><memory unit='MiB'>32</memory>"
    "<os><type arch='x86_64' machine='q35'>hvm</type></os>%s</domain>"
)


@pytest.fixture
def normaliser(hypervisor, run):
    with tempfile.TemporaryDirectory(prefix="engine") as root:
        normaliser = Normaliser(root, hypervisor.agent.libvirt)
        yield normaliser
        run(normaliser.stop())


def test_it_completes_what_is_not_stated(run, normaliser):
    xml = TINY % "<devices><interface type='network'><source network='default'/></interface></devices>"
    completed = run(normaliser.normalise(xml, "qemu"))
    assert "pc-q35-" in completed and "<mac address=" in completed


def test_it_does_without_lxml():
    """With which libvirt's driver crashes at times when it opens a file."""
    found = "import sys, archipel_agent.normaliser; print('libvirt' in sys.modules, 'lxml' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", found], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "True False\n"


def test_what_was_asked_is_known_for_a_while(run, normaliser, monkeypatch):
    kept, forgotten = TINY % "<title>kept</title>", TINY % "<title>forgotten</title>"
    answer = run(normaliser.normalise(kept, "qemu"))
    monkeypatch.setattr(normaliser_client, "_KEPT_FOR", 0)
    run(normaliser.normalise(forgotten, "qemu"))
    os.kill(normaliser._process.pid, signal.SIGSTOP)
    normaliser.timeout = 0.2
    assert run(normaliser.normalise(kept, "qemu")) == answer
    with pytest.raises(ArchipelError, match="did not answer"):
        run(normaliser.normalise(forgotten, "qemu"))


def test_another_process_may_answer_otherwise(run, normaliser):
    """Without a UUID libvirt makes one up, so that answers can be told apart."""
    first = run(normaliser.normalise(TINY % "", "qemu"))
    normaliser._process.kill()
    run(normaliser._process.wait())
    assert run(normaliser.normalise(TINY % "", "qemu")) != first


def test_it_is_started_again_when_it_died(run, normaliser):
    first = run(normaliser.normalise(TINY % "", "qemu"))
    normaliser._process.kill()
    run(normaliser._process.wait())
    second = run(normaliser.normalise(TINY % "<uuid>1ad53f2f-5b06-5d4e-9d1c-4d4f4b0a6f39</uuid>", "qemu"))
    assert first.count("\n") == second.count("\n")


def test_what_hangs_is_ended(run, normaliser):
    run(normaliser.start())
    os.kill(normaliser._process.pid, signal.SIGSTOP)
    normaliser.timeout = 0.2
    with pytest.raises(ArchipelError, match="did not answer within 0.2 s"):
        run(normaliser.normalise(TINY % "", "qemu"))
    normaliser.timeout = 10
    assert run(normaliser.normalise(TINY % "", "qemu"))


def test_what_was_cancelled_is_not_the_next_answer(run, normaliser):
    run(normaliser.start())

    async def cancel():
        task = asyncio.create_task(normaliser.normalise(TINY % "<title>first</title>", "qemu"))
        await asyncio.sleep(0.0005)
        task.cancel()
        await asyncio.wait([task])
        return await normaliser.normalise(TINY % "<title>second</title>", "qemu")

    assert "second" in run(cancel())


def test_refusals_are_libvirts_own(run, normaliser):
    with pytest.raises(LibvirtError, match="missing name information"):
        run(normaliser.normalise("<domain type='qemu'/>", "qemu"))


def test_other_types_are_the_daemons(run, normaliser):
    assert run(normaliser.normalise(TINY % "", "lxc")) is None


def test_what_cannot_be_started_is_not_tried_for_each_plan(hypervisor, run, caplog):
    normaliser = Normaliser("/proc/engine-test", hypervisor.agent.libvirt)
    assert [run(normaliser.normalise(TINY % "", "qemu")) for dummy in range(3)] == [None] * 3
    assert caplog.text.count("plans compare text") == 1


def test_another_version_is_not_trusted(run, normaliser, monkeypatch, caplog):
    run(normaliser.start())
    normaliser._version -= 1
    normaliser._compared = None
    assert run(normaliser.normalise(TINY % "", "qemu")) is None
    assert "the daemon has libvirt" in caplog.text


def test_without_it_values_are_compared_as_they_stand(run):
    """test:///default is no QEMU: what is stated is laid over what is there, and that is the comparison."""

    async def scenario():
        facade = Libvirt("test:///default")
        await facade.start()
        with tempfile.TemporaryDirectory(prefix="engine") as root:
            normaliser = Normaliser(root, facade)
            try:
                xml = await facade.call(lambda connection: connection.lookupByName("test").XMLDesc(3))
                existing = parse(xml)
                desired = Desired(existing.findtext("uuid"), "test", "present")

                async def change(stated):
                    return await prediction.change(existing, desired, parse(stated), normaliser.normalise)

                assert (await change("<domain><memory unit='GiB'>8</memory></domain>")).prediction is None
                changed = (await change("<domain><vcpu>4</vcpu></domain>")).prediction
                assert (changed.exact, changed.definition.findtext("vcpu")) == (False, "4")
            finally:
                await normaliser.stop()
                await facade.stop()

    run(scenario())
