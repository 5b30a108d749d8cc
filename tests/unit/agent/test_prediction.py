# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""When libvirt's driver is asked, and what its answer makes of a declaration; with the driver itself: engine tests."""

from __future__ import annotations

import asyncio

import pytest

from archipel_agent import domain_xml, prediction
from archipel_agent.domain_xml import parse
from archipel_agent.wanted import Desired

UUID = "1ad53f2f-5b06-5d4e-9d1c-4d4f4b0a6f39"
WEB = (
    f"<domain type='kvm'><uuid>{UUID}</uuid><name>web</name><memory unit='KiB'>1024</memory>"
    "<currentMemory unit='KiB'>1024</currentMemory><devices><disk type='file'><target dev='vda' bus='virtio'/></disk>"
    "</devices>%s</domain>"
)


def change(existing, stated, completions, exact=()):
    """What becomes of ``existing``, and how often the driver was asked, which makes such replacements in a text."""
    asked = []

    async def normalise(xml, domain_type):
        asked.append(xml)
        for old, new in completions:
            xml = xml.replace(old, new)
        return xml

    desired = Desired(UUID, "web", "present", exact=frozenset(exact))
    found = asyncio.run(prediction.change(parse(existing), desired, parse(stated), normalise))
    return None if found is None else domain_xml.serialise(found.definition), len(asked)


@pytest.mark.parametrize(
    "stated, completions, part",
    [
        ("<on_crash>destroy</on_crash>", [], "<on_crash>destroy</on_crash>"),
        # libvirt puts in again what depended on the old value
        (
            "<memory unit='KiB'>2048</memory>",
            [("2048</memory>", "2048</memory><currentMemory unit='KiB'>2048</currentMemory>")],
            '<currentMemory unit="KiB">2048</currentMemory>',
        ),
        # and completes a new device
        (
            "<devices><disk type='file'><target dev='vdb' bus='virtio'/></disk></devices>",
            [('dev="vdb" bus="virtio"/>', 'dev="vdb" bus="virtio"/><address type="pci"/>')],
            '<address type="pci"/>',
        ),
    ],
)
def test_what_libvirt_takes_as_it_is_stated_needs_one_question(stated, completions, part):
    definition, questions = change(WEB % "", f"<domain>{stated}</domain>", completions)
    assert part in definition
    assert questions == 1


def test_what_libvirt_does_not_take_is_no_change():
    stated = "<domain><on_crash>destroy</on_crash></domain>"
    assert change(WEB % "", stated, [("<on_crash>destroy</on_crash>", "")]) == (None, 1)


def test_what_libvirt_rewrites_whatever_is_stated_is_no_change():
    """Of an older libvirt's definition: the driver makes the same of it with the declaration and without."""
    stated = "<domain><on_crash>destroy</on_crash></domain>"
    rewrites = [("<on_crash>destroy<", "<on_crash>restart<"), ("<on_crash>preserve<", "<on_crash>restart<")]
    assert change(WEB % "<on_crash>preserve</on_crash>", stated, rewrites) == (None, 2)


def test_what_libvirt_rewrites_besides_is_told_with_a_change():
    stated = "<domain><title>new</title></domain>"
    definition, questions = change(WEB % "<old/>", stated, [("<old/>", "<young/>")])
    assert "<young/>" in definition and "new" in definition
    assert questions == 2


SHOWN = WEB.replace("</devices>", "<video><model type='vga'/></video></devices>")


@pytest.mark.parametrize(
    "stated, exact, questions",
    [
        # what libvirt would add by itself matters only where something is to go
        ("<devices><video><model type='vga'/></video></devices>", ["video"], 0),
        ("<title>new</title><devices><video><model type='vga'/></video></devices>", ["video"], 1),
        ("<memory>1</memory><os><type>hvm</type></os><devices/>", ["video"], 3),
    ],
)
def test_a_complete_list_of_devices_alone_is_no_question(stated, exact, questions):
    assert change(SHOWN % "", f"<domain>{stated}</domain>", [], exact)[-1:] == (questions,)


def test_what_libvirt_adds_by_itself_does_not_go():
    """The driver gives every machine a display."""
    stated = "<domain><memory>1024</memory><os><type>hvm</type></os><devices/></domain>"
    existing = SHOWN % "<os><type>hvm</type></os>"
    adds = [("<devices/>", "<devices><video><model type='vga'/></video></devices>")]
    assert change(existing, stated, adds, ["video"]) == (None, 1)
