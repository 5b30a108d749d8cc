# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""vCards: what they say, and whose picture they show."""

from __future__ import annotations

import os
import types
from xml.etree import ElementTree as ET

import pytest

from archipel_agent import avatars, vcard
from archipel_agent.store import Store
from archipel_protocol import errors

BARE = "11111111-2222-4333-8444-555555555555@example.org"


@pytest.fixture
def agent(tmp_path):
    store = Store(tmp_path / "hypervisor.sqlite3")
    (tmp_path / "vm.png").write_bytes(b"picture")
    config = types.SimpleNamespace(
        libvirt_uri="qemu+unix:///system",
        machine_avatar_directory=tmp_path,
        hypervisor_default_avatar="",
        vm_default_avatar="vm.png",
        orgname="Example",
        orgunit="",
        locality="",
        userid="ops@example.org",
        categories="",
    )
    yield types.SimpleNamespace(config=config, store=store)
    store.close()


def test_a_machine_says_what_is_its_own_and_the_configurations_else(agent):
    agent.store.set_profile(BARE, {"orgname": "", "orgunit": "Web"})
    entity = types.SimpleNamespace(kind="vm", jid=BARE + "/hv1", name="web")
    card = vcard.Profiles(agent).vcard(entity)
    assert ET.canonicalize(ET.tostring(card, "unicode"), rewrite_prefixes=True) == ET.canonicalize(
        "<vCard xmlns='vcard-temp'><FN>web</FN><ROLE>virtualmachine</ROLE><TITLE>Virtual machine (QEMU)</TITLE>"
        "<ORG><ORGNAME>Example</ORGNAME><ORGUNIT>Web</ORGUNIT></ORG><EMAIL><USERID>ops@example.org</USERID></EMAIL>"
        "<PHOTO><TYPE>image/png</TYPE><BINVAL>cGljdHVyZQ==</BINVAL></PHOTO></vCard>",
        rewrite_prefixes=True,
    )


def test_what_somebody_says_of_a_machine_is_a_line():
    assert vcard.organisation({"orgname": " Example ", "orgunit": ""}) == {"orgname": "Example", "orgunit": ""}
    assert vcard.organisation({"locality": "x" * vcard.LONGEST}) == {"locality": "x" * vcard.LONGEST}
    for text in ("x" * (vcard.LONGEST + 1), "two\nlines", "a\u202eb"):
        with pytest.raises(errors.MalformedRequest, match="locality must be one line of at most 200 characters"):
            vcard.organisation({"locality": text})


def test_pictures_are_plain_files_of_the_folder(tmp_path):
    (tmp_path / "a.png").write_bytes(b"a")
    (tmp_path / "b.JPG").write_bytes(b"b")
    (tmp_path / "large.png").write_bytes(b"x" * (avatars.LARGEST + 1))
    (tmp_path / "notes.txt").write_bytes(b"no")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "link.png").symlink_to("/etc/hostname")
    os.mkfifo(tmp_path / "pipe.gif")
    assert [(one.name, one.content_type) for one in avatars.pictures(tmp_path)] == [
        ("a.png", "image/png"),
        ("b.JPG", "image/jpeg"),
    ]
    assert avatars.read(tmp_path / "nowhere", "a.png") is None
    assert avatars.read(tmp_path, f"../{tmp_path.name}/a.png") is None
    assert avatars.pictures(tmp_path / "nowhere") == []
