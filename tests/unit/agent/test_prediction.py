# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""When libvirt's driver is asked, and what its answer makes of a declaration; with the driver itself: engine tests."""

from __future__ import annotations

import asyncio

import pytest

from archipel_agent import describe, domain_xml, prediction
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
        return change_all(xml, completions)

    desired = Desired(UUID, "web", "present", exact=frozenset(exact))
    found, ignored = asyncio.run(prediction.change(parse(existing), desired, parse(stated), normalise))
    definition = None if found is None else domain_xml.serialise(found.definition)
    return (definition, len(asked), *([ignored] if ignored else []))


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


def test_what_libvirt_does_not_take_is_no_change_and_is_told():
    stated = "<domain><on_crash>destroy</on_crash></domain>"
    assert change(WEB % "", stated, [("<on_crash>destroy</on_crash>", "")]) == (None, 1, ("on_crash",))


def test_what_libvirt_does_not_take_is_told_of_a_machine_that_changes_or_is_new():
    stated = "<domain><title>new</title><on_crahs>destroy</on_crahs><memory unit='KiB' slots='1'>1024</memory></domain>"
    refused = [("<on_crahs>destroy</on_crahs>", ""), (' slots="1"', "")]
    definition, dummy, ignored = change(WEB % "", stated, refused)
    assert "new" in definition and ignored == ("memory/@slots", "on_crahs")

    async def normalise(xml, domain_type):
        return change_all(xml, refused)

    desired = Desired(UUID, "web", "present")
    made = asyncio.run(prediction.creation(desired, parse(stated), None, "kvm", normalise))
    assert made.ignored == ignored


def change_all(text, replacements):
    for old, new in replacements:
        text = text.replace(old, new)
    return text


@pytest.mark.parametrize(
    "stated, candidate, kept, ignored",
    [
        # The outermost alone is told; in whatever device of its kind it may be.
        ("<devices><a><b c='1'/></a></devices>", None, "<devices/>", ("devices/a",)),
        ("<devices><a><b c='1'/></a></devices>", None, "<devices><a/></devices>", ("devices/a/b",)),
        ("<devices><a><b c='1'/></a></devices>", None, "<devices><a><b/></a></devices>", ("devices/a/b/@c",)),
        ("<devices><a/><a><b/></a></devices>", None, "<devices><a><b/></a><a/></devices>", ()),
        # What is stated to go is gone.
        ("<os><kernel/><bootmenu enable='no'/></os>", "<os><kernel/></os>", "<os/>", ()),
        ("<features><acpi/><apicc/></features>", None, "<features><acpi/></features>", ("features/apicc",)),
        # What is nobody's but its owner's.
        ("<metadata><x xmlns='urn:x'/></metadata>", None, "", ()),
        ("<q:commandline xmlns:q='urn:q'><q:arg/></q:commandline>", None, "", ("commandline",)),
        # Of no limit and of what is the default, libvirt says nothing.
        (
            "<devices><disk><driver name='qemu' cache='default'/><iotune><read_iops_sec>0</read_iops_sec></iotune>"
            "</disk></devices>",
            None,
            "<devices><disk><driver name='qemu'/></disk></devices>",
            (),
        ),
        # A number may be kept as another one.
        (
            "<memory unit='MiB'>2</memory><currentMemory unit='MiB'>2</currentMemory><vcpu current='3'>4</vcpu>",
            None,
            "<memory unit='KiB'>1024</memory><currentMemory unit='KiB'>2048</currentMemory><vcpu current='2'>4</vcpu>",
            ("memory", "vcpu/@current"),
        ),
        ("<memory>1024</memory>", None, "<memory unit='KiB'>1024</memory>", ()),
        ("<memory unit='b'>2047</memory>", None, "<memory unit='KiB'>2</memory>", ()),
        ("<vcpu>04</vcpu>", None, "<vcpu placement='static'>4</vcpu>", ()),
        # Nobody has stated it to be so.
        ("<vcpu placement='auto'/>", "<vcpu placement='auto'>2</vcpu>", "<vcpu placement='auto'>4</vcpu>", ()),
        ("<memory>1024</memory>", "<memory>2048</memory>", "<memory>4096</memory>", ()),
        # libvirt counts in what is plugged in.
        (
            "<memory>1024</memory><devices><memory model='dimm'/></devices>",
            None,
            "<memory>2048</memory><devices><memory model='dimm'/></devices>",
            (),
        ),
        # Which of several is meant cannot be told.
        (
            "<devices><video><model vram='3'/></video></devices>",
            None,
            "<devices><video><model vram='4'/></video></devices>",
            ("devices/video/model/@vram",),
        ),
        (
            "<devices><video><model vram='3'/></video></devices>",
            None,
            "<devices><video><model vram='4'/></video><video><model vram='3'/></video></devices>",
            (),
        ),
    ],
)
def test_what_libvirt_leaves_out(stated, candidate, kept, ignored):
    trees = (parse(f"<domain>{text}</domain>") for text in (stated, candidate or stated, kept))
    assert prediction.ignored(*trees) == ignored


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


# As the libxl driver has it; there is no host with Xen to ask.
XEN = f"""<domain type='xen'><name>web</name><uuid>{UUID}</uuid><memory unit='KiB'>262144</memory>
  <currentMemory unit='KiB'>262144</currentMemory><vcpu placement='static'>2</vcpu>
  <os><type arch='x86_64' machine='xenpv'>linux</type><kernel>/vm/k</kernel><cmdline>root=/dev/xvda</cmdline></os>
  <clock offset='utc' adjustment='reset'/><on_poweroff>destroy</on_poweroff><on_reboot>restart</on_reboot>
  <devices>
    <disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/vm/drives/web.qcow2'/>
      <target dev='xvda' bus='xen'/></disk>
    <interface type='bridge'><mac address='52:54:00:00:00:01'/><source bridge='xenbr0'/></interface>
    <console type='pty'><target type='xen' port='0'/></console>
    <graphics type='vnc' port='-1' autoport='yes' passwd='secret'/>
  </devices></domain>"""


@pytest.mark.parametrize(
    "stated, before, after",
    [
        (XEN, {}, {}),
        ("<domain type='xen'><memory unit='MiB'>256</memory><vcpu>2</vcpu></domain>", {}, {}),
        (
            "<domain><devices><interface type='bridge'><source bridge='xenbr0'/></interface>"
            "<disk type='file'><target dev='xvda'/></disk></devices></domain>",
            {},
            {},
        ),
        ("<domain><memory unit='MiB'>512</memory></domain>", {"memory": "256MiB"}, {"memory": "512MiB"}),
        ("<domain><title>A</title></domain>", {}, {"title": "A"}),
    ],
)
def test_a_machine_of_xen_is_planned_by_what_stands_in_its_definition(stated, before, after):
    async def unknown(xml, domain_type):
        assert domain_type == "xen"
        return None

    existing = parse(XEN)
    found, ignored = asyncio.run(prediction.change(existing, Desired(UUID, "web", "present"), parse(stated), unknown))
    assert (found is None, ignored) == (not after, ())
    if found is not None:
        assert not found.exact
        assert describe.difference(existing, found.definition) == (before, after)


def test_a_new_machine_of_xen():
    async def unknown(xml, domain_type):
        return None

    stated = "<domain type='xen'><memory unit='MiB'>256</memory><os><type machine='xenpv'>linux</type></os></domain>"
    made = asyncio.run(prediction.creation(Desired(UUID, "web", "present"), parse(stated), None, "xen", unknown))
    assert made.ignored == () and not made.prediction.exact
    assert describe.definition(made.prediction.definition) == {
        "name": "web",
        "domain_type": "xen",
        "memory": "256MiB",
        "vcpus": 1,
        "machine": "xenpv",
    }


FOLDER = (
    "<filesystem type='mount'><driver type='virtiofs' queue='64'/><source dir='/vm/a'/><target dir='a'/></filesystem>"
)


def test_a_folder_of_virtiofs_is_completed_as_one_of_9p():
    """libvirt's driver of another user than root does not look at virtiofs at all."""
    stated = f"<domain><title>new</title><devices>{FOLDER}<graphics type='vnc' port='-1'/></devices></domain>"
    asked = []

    async def normalise(xml, domain_type):
        asked.append(xml)
        return xml.replace(' port="-1"', "").replace("<source dir", "<driver type='path'/><source dir")

    async def change(existing, text):
        return await prediction.change(existing, Desired(UUID, "web", "present"), parse(text), normalise)

    found, ignored = asyncio.run(change(parse(WEB % ""), stated))
    assert "virtiofs" not in "".join(asked) and ignored == ()
    folder = found.definition.find("devices/filesystem")
    assert [(part.tag, dict(part.attrib)) for part in folder][0] == ("driver", {"type": "virtiofs", "queue": "64"})
    assert len(folder.findall("driver")) == 1
    # Nobody has seen that libvirt keeps it so.
    assert not found.exact
    assert asyncio.run(change(found.definition, stated)) == (None, ())


def test_what_libvirt_writes_and_reads_otherwise_is_asked_for_again():
    consoles = "<domain><devices><console type='pty'/><console type='pty'/></devices></domain>"
    asked = []

    async def normalise(xml, domain_type):
        asked.append(xml)
        return xml.replace("<devices>", f"<devices><sound model='ich{len(asked)}'/>")

    desired = Desired(UUID, "web", "present")
    found = asyncio.run(prediction.change(parse(WEB % ""), desired, parse(consoles), normalise)).prediction
    # The third question is what libvirt would make of the definition as it is.
    assert "ich1" in asked[1] and "console" not in asked[2] and len(asked) == 3
    assert [one.get("model") for one in found.definition.findall("devices/sound")] == ["ich2", "ich1"]
