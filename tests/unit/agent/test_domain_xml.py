# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from archipel_agent import domain_xml
from archipel_agent.domain_xml import Change, parse
from archipel_protocol.errors import MalformedRequest


@pytest.mark.parametrize(
    "text, reason",
    [
        ("<domain>", "not well-formed"),
        ("", "not well-formed"),
        ("<!DOCTYPE domain><domain/>", "document type"),
        ('<!DOCTYPE d [<!ENTITY a "b">]><domain>&a;</domain>', "document type"),
        ('<!DOCTYPE d SYSTEM "file:///etc/passwd"><domain/>', "document type"),
        ("<domain><os/><devices/><devices/></domain>", "<devices> more than once"),
        ("<network/>", "must be a <domain/>"),
        ("<domain>" + " " * domain_xml.MAX_CHARACTERS + "</domain>", "at most"),
        ("<domain>\ud800</domain>", "not well-formed"),
    ],
)
def test_what_is_no_domain_is_refused(text, reason):
    with pytest.raises(MalformedRequest, match=reason):
        domain_xml.parse_domain(text)


def test_comments_and_blanks_are_nothing():
    first = parse("<domain type='kvm'>\n  <!-- x --> <name>a</name>\n</domain>")
    assert domain_xml.equal(first, parse("<domain type='kvm'><name>a</name></domain>"))


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("<domain><a x='1' y='2'/></domain>", "<domain><a y='2' x='1'/></domain>", True),
        ("<domain><a>1</a><b/></domain>", "<domain><a>2</a><b/></domain>", False),
        ("<domain><a/><b/></domain>", "<domain><b/><a/></domain>", False),
        ("<domain><a/></domain>", "<domain><a/><a/></domain>", False),
        ("<domain><a x='1'><b y='1' z='2'/></a></domain>", "<domain><a x='1'><b z='2' y='3'/></a></domain>", False),
        ("<domain>a<b x='1' y='2'/>c</domain>", "<domain>a<b y='2' x='1'/>d</domain>", False),
        ("<domain><a xmlns='one'/></domain>", "<domain><a xmlns='two'/></domain>", False),
    ],
)
def test_only_the_order_of_attributes_means_nothing(first, second, same):
    trees = [domain_xml.parse(one) for one in (first, second)]
    assert domain_xml.equal(*trees) is same


@pytest.mark.parametrize(
    "xml, kibibytes",
    [
        ("<memory>1024</memory>", 1024),
        ("<memory unit='KiB'>1024</memory>", 1024),
        ("<memory unit='k'>1024</memory>", 1024),
        ("<memory unit='MiB'>128</memory>", 131072),
        ("<memory unit='G'> 2 </memory>", 2097152),
        ("<memory unit='b'>1025</memory>", 2),
        ("<memory unit='KB'>1024</memory>", 1000),
        ("<memory unit='TiB'>1</memory>", 1 << 30),
    ],
)
def test_sizes(xml, kibibytes):
    assert domain_xml.kibibytes(parse(xml)) == kibibytes


@pytest.mark.parametrize("xml", ["<memory>-1</memory>", "<memory/>", "<memory unit='x'>1</memory>"])
def test_what_is_no_size(xml):
    with pytest.raises(MalformedRequest):
        domain_xml.kibibytes(parse(xml))


@pytest.mark.parametrize(
    "xml, label",
    [
        ("<disk><target dev='vda' bus='virtio'/></disk>", "disk[vda]"),
        ("<interface><mac address='52:54:00:AA:00:01'/></interface>", "interface[52:54:00:aa:00:01]"),
        ("<controller type='usb' index='0' model='qemu-xhci'/>", "controller[usb,0]"),
        ("<controller type='usb' index='0' model='ich9-uhci1'/>", "controller[usb,ich9-uhci1,0]"),
        ("<controller type='scsi' model='virtio-scsi'/>", "controller[scsi,0]"),
        ("<channel><target type='virtio' name='org.x'/></channel>", "channel[virtio,org.x]"),
        ("<graphics type='vnc'/>", "graphics[vnc]"),
        ("<serial type='pty'/>", "serial[0]"),
        ("<rng/>", "rng[0]"),
    ],
)
def test_devices_are_told_apart(xml, label):
    (key,) = domain_xml.device_keys([parse(xml)])
    assert domain_xml.key_label(key) == label


def test_one_address_of_the_host_in_two_forms_is_one_device():
    keys = domain_xml.device_keys(
        parse(f"<hostdev type='pci'><source><address domain='{domain}' bus='{bus}' slot='2'/></source></hostdev>")
        for domain, bus in (("0x0000", "0x0a"), ("0", "10"))
    )
    assert keys[0] == keys[1][: len(keys[0])]


def test_changes_name_the_place_and_mask_secrets():
    before = parse(
        "<domain><memory unit='KiB'>1</memory><devices><graphics type='vnc' passwd='old' port='1'/>"
        "<disk><target dev='vda'/><driver cache='none'/></disk><sound model='ich6'/></devices></domain>"
    )
    after = parse(
        "<domain><memory unit='KiB'>2</memory><devices><disk><target dev='vda'/><driver/></disk>"
        "<graphics type='vnc' passwd='new' port='1'/><graphics type='spice' passwd='other'/></devices></domain>"
    )
    assert domain_xml.changes(before, after) == [
        Change("memory", "1", "2"),
        Change("devices/graphics[vnc]/@passwd", "(set)", "(changed)"),
        Change("devices/disk[vda]/driver/@cache", "none", None),
        Change("devices/sound[0]", '<sound model="ich6"/>', None),
        Change("devices/graphics[spice]", None, '<graphics type="spice" passwd="(set)"/>'),
    ]
    assert domain_xml.changes(before, before) == []
