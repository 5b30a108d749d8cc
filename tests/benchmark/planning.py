# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a plan takes in the agent: planning.py, on a hypervisor, as the agent's user and with the agent's package.

An agent as its service makes it, with libvirt's daemon and a normaliser of its own, but without XMPP: its handler of
``plan`` is called as a request calls it, permission, libvirt's part and answer included. Standard input:
``{"rounds": number, "machines": {name: uuid}, "cases": [[machine, ...], ...]}``, a case the machines to be planned, one
in each round. Prints the milliseconds of each case, and of libvirt's own part in it: its daemon's answers, and where it
is asked, what its embedded driver takes to define the machine and to dump it, which tells exactly what would change.
"""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import json
import os
import pathlib
import statistics
import subprocess
import sys
import threading
import time
import typing as t
from xml.etree import ElementTree as ET

import libvirt

from archipel_agent import config, dispatch, normaliser
from archipel_agent.__main__ import _GARBAGE
from archipel_agent.agent import Agent
from archipel_agent.virtual_machine import VirtualMachineEntity
from archipel_protocol import declaration, jids, namespaces as ns, payloads

# Plans of the same kind, one after the other, as those of a fleet come.
BLOCK = 10
FOLDER = pathlib.Path(os.environ["RUNTIME_DIRECTORY"])


async def main(order: dict[str, t.Any]) -> list[dict[str, float]]:
    """The figures of each case."""
    settings = dataclasses.replace(config.load(config.DEFAULT_PATH), archipel_folder_lib=FOLDER)
    gc.set_threshold(*_GARBAGE)
    agent = Agent(settings)
    for name, uuid in order["machines"].items():
        agent.store.add(jids.vm_jid(uuid, agent.domain), name, "none")
        agent.vms[uuid] = VirtualMachineEntity(agent, uuid, name)
    await agent.libvirt.start()
    await agent.normaliser.start()
    asked: list[tuple[str, str]] = []
    normalise = agent.normaliser.normalise
    agent.normaliser.normalise = lambda *question: asked.append(question) or normalise(*question)
    calls = watch_calls()
    took: list[list[float]] = [[] for dummy in order["cases"]]
    waited: list[list[float]] = [[] for dummy in order["cases"]]
    questions: list[list[str]] = [[] for dummy in order["cases"]]
    for begin in range(0, order["rounds"], BLOCK):
        # In turns, so that a host that is slow for a moment is so for all.
        for case, machines in enumerate(order["cases"]):
            asked.clear()
            for number in range(begin, begin + BLOCK):
                calls.clear()
                took[case].append(await plan(agent, machines[number % len(machines)]))
                waited[case].append(sum(calls))
            questions[case] += [xml for xml, dummy in asked]
    await agent.normaliser.stop()
    await agent.libvirt.stop()
    floors = subprocess.run(
        [sys.executable, __file__, "libvirt"],
        input=json.dumps(questions),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return [
        {"plan": statistics.median(seconds) * 1000, "daemon": statistics.median(daemon) * 1000, "driver": floor}
        for seconds, daemon, floor in zip(took, waited, json.loads(floors.stdout))
    ]


def watch_calls() -> list[float]:
    """The seconds of each call to the daemon from now on, as long as it is in libvirt's own hands."""
    seconds: list[float] = []

    def watched(call: t.Callable[..., t.Any]) -> t.Callable[..., t.Any]:
        def timed(*arguments: t.Any) -> t.Any:
            begin = time.perf_counter()
            try:
                return call(*arguments)
            finally:
                seconds.append(time.perf_counter() - begin)

        return timed

    for name in dir(libvirt.libvirtmod):
        if name.startswith(("virConnect", "virDomain", "virNetwork", "virNode", "virStorage")):
            setattr(libvirt.libvirtmod, name, watched(getattr(libvirt.libvirtmod, name)))
    return seconds


async def plan(agent: Agent, machine: dict[str, t.Any]) -> float:
    """Seconds of one request."""
    sender = f"automation@{agent.domain}/benchmark"
    query = payloads.request(ns.DECLARATION, declaration.PLAN, text=declaration.encode({"vms": [machine]}))
    begin = time.perf_counter()
    answer = await dispatch.answer(agent.hypervisor, agent.permissions, sender, query)
    took = time.perf_counter() - begin
    (result,) = json.loads("".join(ET.fromstring(ET.tostring(answer)).itertext()))["results"]
    if "error" in result:
        sys.exit(f"{machine['name']}: {result['error']}")
    return took


def libvirt_alone(questions: list[list[str]]) -> list[float]:
    """Milliseconds of libvirt's embedded driver for each text, the median; 0 of none."""
    root = str(FOLDER / "libvirt")
    libvirt.virEventRegisterDefaultImpl()
    threading.Thread(target=normaliser.run_events, daemon=True).start()
    connection = libvirt.open(f"qemu:///embed?root={root}")

    def seconds(xml: str) -> float:
        begin = time.perf_counter()
        normaliser.normalise(connection, root, xml)
        took = time.perf_counter() - begin
        normaliser.clear(connection)
        return took

    return [statistics.median(map(seconds, texts)) * 1000 if texts else 0 for texts in questions]


if __name__ == "__main__":
    given = json.load(sys.stdin)
    print(json.dumps(libvirt_alone(given) if sys.argv[1:] else asyncio.run(main(given))))
