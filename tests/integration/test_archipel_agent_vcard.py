# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""vCards on the real server: by what a client tells hypervisors from machines, and whose picture it shows."""

from __future__ import annotations

import base64
import hashlib

import pytest
from people import Failed, until

AVATAR = "archipel:avatar"
CARD = "{vcard-temp}"
FOLDER = "/var/lib/archipel/avatars"
# The smallest of pictures: one pixel, transparent.
PICTURE = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")


def card(person, jid):
    answer = person.stream.ask("get", "<vCard xmlns='vcard-temp'/>", jid.partition("/")[0])
    return answer.find(CARD + "vCard")


def said(person, jid, *names):
    found = card(person, jid)
    return None if found is None else tuple(found.findtext(CARD + name) for name in names)


@pytest.fixture
def pictures(platform):
    host = platform.hypervisors[0]
    text = base64.b64encode(PICTURE).decode()
    platform.run(
        host,
        f"install -d -o archipel -m 0755 {FOLDER} && echo {text} | base64 -d > {FOLDER}/dot.gif"
        f" && ln -sf /etc/hostname {FOLDER}/link.png && echo no > {FOLDER}/notes.txt",
    )
    yield
    platform.run(host, f"rm -rf {FOLDER}")


def test_kinds_are_told_apart(managed, automation, hypervisor):
    wanted = ("virtualmachine", managed.name, "Virtual machine (QEMU)")
    until(lambda: said(automation, managed.jid, "ROLE", "FN", "TITLE") == wanted)
    wanted = ("hypervisor", managed.host, "Hypervisor (QEMU)")
    assert said(automation, hypervisor, "ROLE", "FN", "TITLE") == wanted


def test_a_new_name_is_in_the_vcard(managed, automation):
    managed.run(f"virsh -q domrename {managed.name} {managed.name}-renamed")
    until(lambda: said(automation, managed.jid, "FN") == (managed.name + "-renamed",))


def test_a_picture_is_chosen_from_the_folder_and_shows_in_presences(managed, automation, pictures):
    listed = automation.act(managed.jid, AVATAR, "getavatars")[0]
    assert [(one.get("name"), one.get("content-type")) for one in listed] == [("dot.gif", "image/gif")]
    assert base64.b64decode(listed[0].text) == PICTURE
    automation.stream.write(f"<presence type='subscribe' to='{managed.bare}'/>")
    automation.act(managed.jid, AVATAR, "setavatar", avatar="dot.gif")
    photo = until(lambda: card(automation, managed.jid).find(CARD + "PHOTO"))
    assert base64.b64decode(photo.findtext(CARD + "BINVAL")) == PICTURE
    update = "{vcard-temp:x:update}"

    def shown():
        automation.act(managed.jid, AVATAR, "getavatars")
        return [one.findtext(f"{update}x/{update}photo") for one in automation.presences]

    until(lambda: hashlib.sha1(PICTURE).hexdigest() in shown())


@pytest.mark.parametrize("name", ["", "../password", "/etc/hostname", "link.png", "notes.txt", "nothing.png"])
def test_nothing_else_is_a_picture(managed, automation, pictures, name):
    with pytest.raises(Failed, match="must be a picture that getavatars lists"):
        automation.act(managed.jid, AVATAR, "setavatar", avatar=name)
