# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""vCards on the real server: by what a client tells hypervisors from machines, and whose picture it shows."""

from __future__ import annotations

import base64
import hashlib

import pytest
from people import CONTROL, HYPERVISOR, Failed, until

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


def organised(person, jid):
    """(name, organisation, unit, town) of a vCard."""
    return said(person, jid, "FN", f"ORG/{CARD}ORGNAME", f"ORG/{CARD}ORGUNIT", f"ADR/{CARD}LOCALITY")


def test_whose_a_machine_is(managed, automation, hypervisor):
    about = {"target": managed.bare.partition("@")[0]}
    content = "<ORGNAME>Example</ORGNAME><LOCALITY>Brest</LOCALITY>"
    answer = automation.act(hypervisor, HYPERVISOR, "setorginfo", content, **about)
    assert answer[0].get("jid") == managed.jid
    until(lambda: organised(automation, managed.jid) == (managed.name, "Example", None, "Brest"))
    other = managed.name + "-renamed"
    content = f"<FN>{other}</FN><ORGUNIT>Web</ORGUNIT><LOCALITY/>"
    automation.act(hypervisor, HYPERVISOR, "setorginfo", content, **about)
    until(lambda: organised(automation, managed.jid) == (other, "Example", "Web", None))


def test_a_machine_that_runs_keeps_its_name(managed, automation, hypervisor):
    about = {"target": managed.bare.partition("@")[0]}
    automation.act(managed.jid, CONTROL, "create")
    with pytest.raises(Failed, match="gets another name only while it is off") as failed:
        automation.act(hypervisor, HYPERVISOR, "setorginfo", "<FN>other</FN><ORGNAME>No</ORGNAME>", **about)
    assert failed.value.code == -9013
    automation.act(hypervisor, HYPERVISOR, "setorginfo", "<ORGNAME>Example</ORGNAME>", **about)
    until(lambda: organised(automation, managed.jid)[:2] == (managed.name, "Example"))
    automation.act(managed.jid, CONTROL, "destroy")


@pytest.mark.parametrize(
    "content, told",
    [("<PHOTO>x</PHOTO>", "<PHOTO/> is not known"), ("<ORGNAME>a\nb</ORGNAME>", "orgname must be one line")],
)
def test_nothing_else_is_said_of_a_machine(managed, automation, hypervisor, content, told):
    with pytest.raises(Failed, match=told):
        automation.act(hypervisor, HYPERVISOR, "setorginfo", content, target=managed.bare.partition("@")[0])
    with pytest.raises(Failed, match="manages no virtual machine 'x'"):
        automation.act(hypervisor, HYPERVISOR, "setorginfo", target="x")


def test_a_new_machine_is_somebodys(automation, hypervisor):
    bare = automation.act(hypervisor, HYPERVISOR, "alloc", orgname="Example", locality="Brest")[0].get("jid")
    try:
        until(lambda: (organised(automation, bare) or ())[1:] == ("Example", None, "Brest"))
    finally:
        automation.act(hypervisor, HYPERVISOR, "free", jid=bare)


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
