# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Another driver than QEMU's, which lacks much: what it has is done, and what it lacks is said in libvirt's words."""

from __future__ import annotations

import asyncio
import types

import pytest

libvirt = pytest.importorskip("libvirt")

from archipel_agent import declaration, domains, image_chains, installed, snapshots  # noqa: E402 - they import libvirt
from archipel_agent.libvirt_facade import Libvirt  # noqa: E402 - as above
from archipel_protocol import errors  # noqa: E402 - as above

XML = "<domain type='test'><name>other</name><memory>8192</memory><os><type>hvm</type></os></domain>"


async def on_test_driver(work):
    facade = Libvirt("test:///default")
    await facade.start()
    try:
        return await work(facade, await facade.call(lambda connection: connection.defineXML(XML).UUIDString()))
    finally:
        await facade.stop()


def test_what_it_has_is_done():
    async def work(facade, uuid):
        assert await facade.call(domains.emulator, "i686", "testv", "test") == ""
        assert await facade.call(image_chains.at_start, uuid) == []
        await facade.call(domains.start, uuid, False)
        await facade.call(domains.suspend, uuid)
        await facade.call(domains.resume, uuid)
        await facade.call(domains.power_off, uuid)
        await facade.call(domains.undefine, uuid)
        return await facade.call(domains.look, uuid)

    assert asyncio.run(on_test_driver(work)) is None


def test_few_machines_are_seen_as_they_are_among_many():
    async def work(facade, uuid):
        def define(connection, number):
            domain = connection.defineXML(XML.replace("other", f"other-{number}"))
            domain.setAutostart(number % 2)
            if number % 3 == 0:
                domain.create()
            return domain.UUIDString()

        wanted = {await facade.call(define, number): f"other-{number}" for number in range(domains.FEW + 1)}
        absent = {"00000000-0000-4000-8000-000000000001": "none", "00000000-0000-4000-8000-000000000002": "other"}
        many = await snapshots.take(facade, {**wanted, **absent})
        assert set(many.machines) == set(wanted)
        assert {machine.autostart for machine in many.machines.values()} == {True, False}
        for one, name in {**wanted, **absent}.items():
            seen = await snapshots.look(facade, one, name)
            assert seen.machines == {key: machine for key, machine in many.machines.items() if key == one}
            assert seen.owners.get(name) == many.owners.get(name)
            assert await seen.runs == {key: has for key, has in (await many.runs).items() if key == one}
        # Several at once are found in a listing, of which few are looked at.
        group = {**dict(list(wanted.items())[: domains.FEW - len(absent)]), **absent}
        several = await snapshots.take(facade, group)
        assert several.machines == {key: machine for key, machine in many.machines.items() if key in group}
        assert several.owners == many.owners
        assert await several.runs == {key: has for key, has in (await many.runs).items() if key in group}
        assert len(await many.runs) == sum(machine.active for machine in many.machines.values()) == 3
        assert seen.owners == {"other": uuid}
        renamed = next(iter(wanted))
        return (await snapshots.look(facade, renamed, "other")).owners, renamed, uuid

    owners, renamed, uuid = asyncio.run(on_test_driver(work))
    assert owners == {"other-0": renamed, "other": uuid}


def test_many_machines_are_looked_at_in_parts_and_none_is_missing():
    async def work(facade, uuid):
        def define(connection, number):
            return connection.defineXML(XML.replace("other", f"other-{number}")).UUIDString()

        uuids = [await facade.call(define, number) for number in range(100)]
        found = await declaration._look_at(types.SimpleNamespace(libvirt=facade), uuids, True)
        every = await facade.call(domains.survey, lambda uuid, name: True)
        gone = await declaration._look_at(types.SimpleNamespace(libvirt=facade), ["no-such-uuid", *uuids[1:]], True)
        return [sorted(one.uuid for one in some) for some in (found, gone)], found, every, uuids

    (seen, left), found, every, uuids = asyncio.run(on_test_driver(work))
    assert seen == sorted(uuids) and left == sorted(uuids[1:])
    assert {one.uuid: one for one in found} == {one.uuid: one for one in every if one.uuid in uuids}


def test_what_is_installed_is_asked_for_once_a_while(monkeypatch):
    asked = []

    def question(connection, *args):
        asked.append(args)
        return f"answer {len(asked)}"

    async def work(facade, uuid):
        told = [await installed.told(facade, question, one) for one in ("x86_64", "x86_64", "i686")]
        told.append(await facade.call(installed.asked, question, "x86_64"))
        monkeypatch.setattr(installed, "_KEPT_FOR", 0.0)
        return [*told, await installed.told(facade, question, "i686")]

    assert asyncio.run(on_test_driver(work)) == ["answer 1", "answer 1", "answer 2", "answer 1", "answer 3"]
    assert asked == [("x86_64",), ("i686",), ("i686",)]


def test_what_it_lacks_is_said_in_libvirts_words():
    async def work(facade, uuid):
        with pytest.raises(errors.LibvirtError, match="not supported") as raised:
            await facade.call(domains.wake, uuid)
        return raised.value.code

    assert asyncio.run(on_test_driver(work)) == libvirt.VIR_ERR_NO_SUPPORT
