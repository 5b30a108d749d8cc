# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from archipel_agent import describe, domain_xml
from archipel_agent.domain_xml import parse

WEB = """
<domain type='kvm'><name>web</name><memory unit='KiB'>131072</memory><currentMemory unit='KiB'>131072</currentMemory>
  <vcpu placement='static'>2</vcpu>
  <os><type>hvm</type><kernel>/vm/k</kernel><initrd>/vm/i</initrd><cmdline>quiet</cmdline></os>
  <devices>
    <disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/vm/drives/a'/>
      <target dev='vda' bus='virtio'/></disk>
    <disk type='volume' device='disk'><driver name='qemu' type='raw'/><source pool='lvm' volume='b'/>
      <target dev='vdb' bus='virtio'/></disk>
    <disk type='file' device='cdrom'><source file='/vm/iso/x.iso'/><target dev='sda' bus='sata'/></disk>
    <interface type='network'><mac address='52:54:00:00:00:01'/><source network='default'/><model type='virtio'/>
    </interface>
    <interface type='bridge'><mac address='52:54:00:00:00:02'/><source bridge='br0'/></interface>
    <interface type='direct'><mac address='52:54:00:00:00:03'/><source dev='eth0'/></interface>
    <interface type='user'><mac address='52:54:00:00:00:04'/></interface>
    <graphics type='vnc' passwd='secret' listen='127.0.0.1'><listen type='address' address='127.0.0.1'/></graphics>
  </devices>
</domain>
"""

NETWORK = {"network": "default", "mac": "52:54:00:00:00:01", "model": "virtio"}
DIRECT = {"direct": "eth0", "mac": "52:54:00:00:00:03"}
USER = {"user": True, "mac": "52:54:00:00:00:04"}


def test_a_definition_in_the_terms_of_the_options():
    assert describe.definition(parse(WEB)) == {
        "name": "web",
        "domain_type": "kvm",
        "memory": "128MiB",
        "vcpus": 2,
        "kernel": "/vm/k",
        "initrd": "/vm/i",
        "cmdline": "quiet",
        "disks": [
            {"target": "vda", "bus": "virtio", "path": "/vm/drives/a", "format": "qcow2"},
            {"target": "vdb", "bus": "virtio", "pool": "lvm", "volume": "b", "format": "raw"},
        ],
        "cdrom": "/vm/iso/x.iso",
        "networks": [
            {"network": "default", "mac": "52:54:00:00:00:01", "model": "virtio"},
            {"bridge": "br0", "mac": "52:54:00:00:00:02"},
            {"direct": "eth0", "mac": "52:54:00:00:00:03"},
            {"user": True, "mac": "52:54:00:00:00:04"},
        ],
        "graphics": [{"type": "vnc", "listen": "127.0.0.1", "password": "(set)"}],
    }


@pytest.mark.parametrize(
    "kibibytes, text",
    [
        (131072, "128MiB"),
        (1048576, "1GiB"),
        (1 << 30, "1TiB"),
        (1025, "1025KiB"),
        (1536 * 1024, "1536MiB"),
        (0, "0KiB"),
    ],
)
def test_sizes(kibibytes, text):
    assert describe.size(kibibytes) == text


@pytest.mark.parametrize(
    "old, new, before, after",
    [
        (
            "131072</memory><currentMemory unit='KiB'>131072",
            "262144</memory><currentMemory unit='KiB'>262144",
            {"memory": "128MiB"},
            {"memory": "256MiB"},
        ),
        (
            "<currentMemory unit='KiB'>131072",
            "<currentMemory unit='KiB'>65536",
            {"memory": "128MiB"},
            {"memory": "64MiB", "max_memory": "128MiB"},
        ),
        ("/vm/iso/x.iso", "/vm/iso/y.iso", {"cdrom": "/vm/iso/x.iso"}, {"cdrom": "/vm/iso/y.iso"}),
        ("<source file='/vm/iso/x.iso'/>", "", {"cdrom": "/vm/iso/x.iso"}, {"cdrom": ""}),
        ("quiet", "debug", {"cmdline": "quiet"}, {"cmdline": "debug"}),
        (
            "type='qcow2'/>",
            "type='qcow2' copy_on_read='on'/>",
            {"xml": []},
            {"xml": ["devices/disk[vda]/driver/@copy_on_read: on"]},
        ),
        (
            "<vcpu placement='static'>2",
            "<vcpu placement='static' current='2'>4",
            {},
            {"max_vcpus": 4},
        ),
        (
            "<interface type='bridge'>",
            "<interface type='bridge'><link state='down'/><filterref filter='f'/>",
            {"networks": [NETWORK, {"bridge": "br0", "mac": "52:54:00:00:00:02"}, DIRECT, USER]},
            {
                "networks": [
                    NETWORK,
                    {"bridge": "br0", "mac": "52:54:00:00:00:02", "link": "down", "filter": "f"},
                    DIRECT,
                    USER,
                ]
            },
        ),
        (
            "</devices>",
            "<serial type='tcp'><source mode='bind' host='::1' service='1'/></serial>"
            "<channel type='unix'><target type='virtio' name='a'/></channel><watchdog model='itco' action='reset'/>"
            "<rng model='virtio'><rate bytes='9'/><backend model='random'>/dev/random</backend></rng>"
            "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>"
            "<filesystem type='mount'><source dir='/vm/s'/><target dir='t'/></filesystem>"
            "<hostdev mode='subsystem' type='mdev'><source><address uuid='u'/></source></hostdev>"
            "<video><model type='vga'/></video></devices>",
            {},
            {
                "serials": [{"type": "tcp", "host": "::1", "port": 1}],
                "channels": [{"name": "a", "type": "unix"}],
                "watchdog": {"model": "itco", "action": "reset"},
                "rng": {"source": "/dev/random", "rate_bytes": 9},
                "tpm": {"model": "tpm-crb", "version": "2.0"},
                "filesystems": [{"driver": "9p", "source": "/vm/s", "target": "t"}],
                "host_devices": ["hostdev[mdev,uuid=u]"],
                "video": {"model": "vga"},
            },
        ),
        (
            "<os>",
            "<features><acpi/></features><os>",
            {"xml": []},
            {"xml": ["features: <features><acpi/></features>"]},
        ),
        ("web", "web", {}, {}),
    ],
)
def test_only_what_differs(old, new, before, after):
    assert describe.difference(parse(WEB), parse(WEB.replace(old, new))) == (before, after)


def test_a_removed_disk_is_told_once():
    after = parse(WEB)
    devices = after.find("devices")
    devices.remove(devices[0])
    old, new = describe.difference(parse(WEB), after)
    assert ([*old], [*new]) == (["disks"], ["disks"])
    assert new["disks"] == old["disks"][1:]


@pytest.mark.parametrize(
    "old, new, before, after",
    [
        ("passwd='secret'", "passwd='other'", "(set)", "(changed)"),
        ("passwd='secret'", "", "(set)", None),
        ("type='vnc' passwd='secret'", "type='spice' passwd='other'", "(set)", "(set)"),
    ],
)
def test_passwords_are_never_shown(old, new, before, after):
    result = describe.difference(parse(WEB), parse(WEB.replace(old, new)))
    assert [side["graphics"][0].get("password") for side in result] == [before, after]
    assert "secret" not in str(result) and "other" not in str(result)


@pytest.mark.parametrize(
    "old, new, told",
    [
        (
            "passwd='secret'",
            "passwd='other'",
            ['-    <graphics type="vnc" passwd="(set)"', '+    <graphics type="vnc" passwd="(changed)"'],
        ),
        ("passwd='secret' ", "", ['-    <graphics type="vnc" passwd="(set)"', '+    <graphics type="vnc" listen=']),
        (">quiet<", ">loud<", ["-    <cmdline>quiet</cmdline>", "+    <cmdline>loud</cmdline>"]),
        ("web", "web", []),
    ],
)
def test_the_difference_in_xml_is_told_line_by_line_and_without_secrets(old, new, told):
    text = describe.xml_difference(parse(WEB), parse(WEB.replace(old, new)))
    lines = [line for line in text.splitlines() if line[:1] in ("-", "+") and line[:3] not in ("---", "+++")]
    assert len(lines) == len(told) and all(map(str.startswith, lines, told)), text
    assert "secret" not in text and "other" not in text


def test_a_definition_that_comes_or_goes_is_told_in_xml():
    for pair, sign in (((None, parse(WEB)), "+"), ((parse(WEB), None), "-")):
        text = describe.xml_difference(*pair)
        assert f'{sign}<domain type="kvm">' in text and 'passwd="(set)"' in text and "secret" not in text


OWNER = "0f6ac0de-0d0b-4c53-9a4f-0b7f8f7a3c11@old.example"


def test_a_password_that_archipel_0_6_left_in_a_description_is_never_shown():
    described = WEB.replace("</name>", f"</name><description>Sales {OWNER}::::pass1 now</description>", 1)
    assert describe.definition(parse(described))["description"] == f"Sales {OWNER}::::(set) now"
    for after in (described.replace("pass1", "pass2"), described.replace("Sales", "Law"), WEB):
        shown = (
            describe.difference(parse(described), parse(after)),
            describe.xml_difference(parse(described), parse(after)),
            describe.xml_difference(parse(after), parse(described)),
        )
        assert "pass1" not in str(shown) and "pass2" not in str(shown)


QEMU = domain_xml.QEMU_NAMESPACE
HANDED_ON = f"""<domain type='kvm' xmlns:qemu='{QEMU}'><name>web</name>
  <sysinfo type='fwcfg'><entry name='opt/org.coreos/config'>pass-1</entry></sysinfo>
  <sysinfo type='smbios'><system><entry name='manufacturer'>Acme</entry></system>
    <oemStrings><entry>pass-2</entry><entry>pass-3</entry></oemStrings></sysinfo>
  <devices><disk type='network'><source protocol='https' name='x'><cookies><cookie name='c'>pass-4</cookie></cookies>
    <auth username='me'><secret type='iscsi' usage='readable'/></auth></source><target dev='vda'/></disk></devices>
  <qemu:commandline><qemu:arg value='-fw_cfg'/><qemu:arg value='name=opt/x,string=pass-5'/>
    <qemu:env name='TOKEN' value='pass-6'/></qemu:commandline></domain>"""


@pytest.mark.parametrize("number", range(1, 7))
def test_what_qemu_or_the_firmware_is_handed_is_never_shown(number):
    one = f"pass-{number}"
    before, after = parse(HANDED_ON), parse(HANDED_ON.replace(one, "word"))
    changes, xml = describe.difference(before, after), describe.xml_difference(before, after)
    assert [text.partition(": ")[2] for side in changes for text in side["xml"]] == ["(set)", "(changed)"]
    lines = [line for line in xml.splitlines()[2:] if line[:1] in ("-", "+")]
    assert len(lines) == 2 and "(set)" in lines[0] and "(changed)" in lines[1]
    assert "pass-" not in f"{changes}{xml}" and "word" not in f"{changes}{xml}"


def test_what_comes_or_goes_is_shown_without_what_qemu_is_handed():
    whole, bare = parse(HANDED_ON), parse(f"<domain type='kvm' xmlns:qemu='{QEMU}'><name>web</name></domain>")
    without_one = parse(HANDED_ON.replace("<entry>pass-3</entry>", "").replace("<qemu:arg value='-fw_cfg'/>", ""))
    for pair in (
        (whole, bare),
        (bare, whole),
        (whole, without_one),
        (without_one, whole),
        (None, whole),
        (whole, None),
    ):
        told = describe.xml_difference(*pair) + (str(describe.difference(*pair)) if None not in pair else "")
        assert "pass-" not in told and "(set)" in told
    assert "Acme" in told and 'usage="readable"' in told


def test_a_message_does_not_repeat_what_qemu_is_handed():
    said = "-fw_cfg name=opt/x,string=pass-5: Invalid parameter 'string=pass-5'; pass-5, pass-1, pass-2 and pass-6"
    hidden = "-fw_cfg (set): Invalid parameter '(set)'; (set), (set), (set) and (set)"
    assert domain_xml.concealed(said, parse(HANDED_ON)) == hidden
    # A password that is a word would be told by the hole it leaves.
    assert domain_xml.concealed("the display is secret", parse(WEB)) == "the display is secret"
