# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The agent's way to libvirt: threads, time limits, events and a daemon that comes and goes.

To be run on a hypervisor, with the distribution's Python::

    PYTHONPATH=/usr/lib/archipel python3 -m pytest tests/integration/archipel_agent

libvirt's test driver lives in this process and dies with it.
"""

from __future__ import annotations

import asyncio
import collections
import threading
import time

import pytest

libvirt = pytest.importorskip("libvirt")

from archipel_agent import libvirt_facade, standings  # noqa: E402 - it imports libvirt
from archipel_protocol import errors, states  # noqa: E402 - as above

DOMAIN = "<domain type='test'><name>%s</name><memory>8192</memory><os><type>hvm</type></os></domain>"


def with_libvirt(uri="test:///default", **options):
    """Runs a coroutine function with a facade that is started and stopped."""

    def decorate(function):
        def test():
            async def run():
                facade = libvirt_facade.Libvirt(uri, **options)
                await facade.start()
                try:
                    await asyncio.wait_for(function(facade), 60)
                finally:
                    await facade.stop()

            asyncio.run(run())

        test.__doc__ = function.__doc__
        return test

    return decorate


async def define(facade, name):
    return await facade.call(lambda connection: connection.defineXML(DOMAIN % name).UUIDString())


@with_libvirt()
async def test_a_call_returns_what_its_function_returns(facade):
    assert facade.connected
    assert await facade.call(lambda connection, a, b: (connection.getType(), a + b), 1, 2) == ("TEST", 3)
    assert await facade.call_apart(lambda connection, a: (connection.getType(), a), 1) == ("TEST", 1)


@with_libvirt()
async def test_libvirts_errors_are_translated(facade):
    missing = "00000000-0000-4000-8000-000000000000"
    for call in (facade.call, facade.call_apart):
        with pytest.raises(libvirt_facade.DomainNotFound) as raised:
            await call(standings.standing, missing)
        assert raised.value.code == libvirt.VIR_ERR_NO_DOMAIN
        with pytest.raises(errors.LibvirtError) as raised:
            await call(lambda connection: connection.defineXML("<nonsense/>"))
        assert raised.value.code == libvirt.VIR_ERR_XML_ERROR


@with_libvirt()
async def test_a_slow_call_is_limited_and_named_and_slows_nobody(facade):
    def stay_away(connection):
        time.sleep(3)

    begin = time.monotonic()
    slow = asyncio.create_task(facade.call(stay_away, timeout=1))
    await asyncio.gather(*(facade.call(lambda connection: connection.getVersion()) for dummy in range(50)))
    assert time.monotonic() - begin < 1
    with pytest.raises(errors.ArchipelError, match="did not finish 'stay away' within 1 s"):
        await slow


@with_libvirt()
async def test_a_domain_that_hangs_keeps_few_threads_and_fails_quickly_in_the_end(facade):
    hung, other = (f"0000000{number}-0000-4000-8000-000000000000" for number in (1, 2))
    end = threading.Event()

    def hang(connection, uuid):
        end.wait(30)

    def look(connection, uuid):
        return connection.getType()

    hanging = [asyncio.create_task(facade.call(hang, hung, timeout=0.5)) for dummy in range(100)]
    # More than there are threads; only those of the domain wait.
    assert await asyncio.gather(*(facade.call(look, other) for dummy in range(100))) == ["TEST"] * 100
    assert await facade.call(standings.standings)
    failures = await asyncio.gather(*hanging, return_exceptions=True)
    messages = collections.Counter(fault.message for fault in failures)
    assert messages == {
        "libvirt did not finish 'hang' within 0.5 s": libvirt_facade.LANE,
        "libvirt does not begin 'hang': 'hang' on this domain has not come back": 100 - libvirt_facade.LANE,
    }
    with pytest.raises(errors.ArchipelError, match="does not begin 'look': 'hang' on this domain"):
        await facade.call(look, hung)
    assert await facade.call(look, other) == "TEST"
    end.set()
    while facade._lanes[hung].running:
        await asyncio.sleep(0.01)
    assert await facade.call(look, hung) == "TEST"


@with_libvirt()
async def test_a_call_that_was_given_up_before_it_began_is_not_made(facade):
    end, made = threading.Event(), []
    uuids = [f"{number:08x}-0000-4000-8000-000000000000" for number in range(libvirt_facade.DOMAIN_THREADS + 1)]

    def hang(connection, uuid):
        made.append(uuid)
        end.wait(30)

    calls = [facade.call(hang, uuid, timeout=1) for uuid in uuids]
    failures = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(fault, errors.ArchipelError) for fault in failures)
    end.set()
    assert await facade.call(lambda connection, uuid: 1, uuids[0]) == 1
    assert sorted(made) == uuids[:-1]


@with_libvirt()
async def test_events_come_in_the_loop(facade):
    seen = asyncio.Queue()
    loop = asyncio.get_running_loop()
    forget = facade.on_event(lambda *event: seen.put_nowait((*event[:2], asyncio.get_running_loop() is loop)))
    uuid = await define(facade, "told")
    await facade.call(lambda connection: connection.lookupByUUIDString(uuid).create())
    assert await seen.get() == (uuid, libvirt.VIR_DOMAIN_EVENT_DEFINED, True)
    assert await seen.get() == (uuid, libvirt.VIR_DOMAIN_EVENT_STARTED, True)
    forget()
    await facade.call(lambda connection: connection.lookupByUUIDString(uuid).destroy())
    await asyncio.sleep(0.2)
    assert seen.empty()


@with_libvirt()
async def test_waiting_ends_with_an_event(facade):
    uuid = await define(facade, "awaited")
    waiting = asyncio.create_task(facade.wait_for_state(uuid, lambda state: state == states.RUNNING, 10))
    await asyncio.sleep(0.3)
    assert not waiting.done()
    begin = time.monotonic()
    await facade.call(lambda connection: connection.lookupByUUIDString(uuid).create())
    assert await waiting == states.RUNNING
    assert time.monotonic() - begin < 0.5


@with_libvirt()
async def test_waiting_tells_the_last_state(facade):
    uuid = await define(facade, "patient")
    with pytest.raises(errors.ArchipelError, match="is still stopped after 0.2 s"):
        await facade.wait_for_state(uuid, lambda state: state == states.RUNNING, 0.2)
    with pytest.raises(libvirt_facade.DomainNotFound):
        await facade.wait_for_state("00000000-0000-4000-8000-000000000000", lambda state: True, 1)


@with_libvirt()
async def test_standings(facade):
    uuid = await define(facade, "standing")
    found = await facade.call(standings.standings)
    assert found[uuid] == await facade.call(standings.full_standing, uuid)
    assert (found[uuid].name, found[uuid].state, found[uuid].crashed) == ("standing", states.SHUTOFF, False)
    assert {one.name for one in found.values()} >= {"test", "standing"}


@with_libvirt(uri="qemu+unix:///system?socket=/nowhere")
async def test_a_daemon_that_is_not_there(facade):
    assert not facade.connected
    with pytest.raises(errors.LibvirtError, match="libvirt is out of reach") as raised:
        await facade.call(lambda connection: connection.getVersion())
    assert raised.value.code == libvirt.VIR_ERR_NO_CONNECT
