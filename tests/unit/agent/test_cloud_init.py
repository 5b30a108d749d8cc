# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Seeds of cloud-init: what is in an image, what a declaration changes of it, and never a secret."""

from __future__ import annotations

import pytest

from archipel_agent import cloud_init, describe, overlay, plan
from archipel_agent.devices import SEED
from archipel_agent.domain_xml import attribute_of, parse
from archipel_agent.prediction import Prediction
from archipel_agent.storage import Changes
from archipel_agent.wanted import Desired, machines
from archipel_protocol import states
from archipel_protocol.errors import ArchipelError, MalformedRequest

UUID = "1ad53f2f-5b06-5d4e-9d1c-4d4f4b0a6f39"
VOLUME = {"pool": "default", "name": "web-cloud-init.img", "capacity": 0, "format": "raw"}
PATH = "/vm/drives/web-cloud-init.img"
FILES = {"user-data": "#cloud-config\npassword: s3cret ünd\n", "meta-data": '{"instance-id": "a"}\n'}
GONE = ("default", "web-cloud-init.img")
BARE = "<domain><name>web</name><uuid>%s</uuid><devices>%%s</devices></domain>" % UUID
MEDIUM = "<disk type='file' device='cdrom'><source file='/vm/iso/a.iso'/><target dev='sda' bus='sata'/></disk>"
DRIVE = f"<disk type='file' device='cdrom'><source file='{PATH}'/><target dev='sdb' bus='scsi'/><readonly/></disk>"


def test_what_is_written_is_read():
    files = {**FILES, "network-config": '{"version": 2}\n'}
    image = cloud_init.image(files)
    assert cloud_init.files_of(image) == files
    assert len(image) % (256 * 1024) == 0


@pytest.mark.parametrize(
    "text",
    ["#cloud-config\n", "#cloud-config\n" + "x" * 1_000_000],
)
def test_sizes(text):
    assert cloud_init.files_of(cloud_init.image({"user-data": text})) == {"user-data": text}


def test_an_image_that_was_never_written_or_not_to_its_end_has_no_files():
    image = cloud_init.image(FILES)
    assert cloud_init.files_of(b"") == {}
    assert cloud_init.files_of(bytes(len(image))) == {}
    for end in range(0, len(image.rstrip(b"\0")), 1000):
        assert cloud_init.files_of(image[:end].ljust(len(image), b"\0")) != FILES


def test_what_is_no_seed_is_left_alone():
    other = cloud_init.image(FILES).replace(b"cidata", b"guests")
    for content in (other, b"\1" * 65536):
        with pytest.raises(ArchipelError, match="is something else than a seed of cloud-init, and is not overwritten"):
            cloud_init.files_of(content)


def test_what_stays_is_not_written():
    seed = cloud_init.seed(VOLUME, PATH, FILES, cloud_init.image(FILES))
    assert (seed.image, seed.before, seed.after) == (None, {}, {})


@pytest.mark.parametrize(
    "old, new, before, after",
    [
        (None, FILES, {}, {"user_data": "(set)", "meta_data": {"instance-id": "a"}}),
        (
            FILES,
            {**FILES, "user-data": "#cloud-config\npassword: 0ther\n"},
            {"user_data": "(set)"},
            {"user_data": "(changed)"},
        ),
        (
            FILES,
            {**FILES, "meta-data": '{"instance-id": "b"}\n'},
            {"meta_data": {"instance-id": "a"}},
            {"meta_data": {"instance-id": "b"}},
        ),
        (
            {**FILES, "network-config": "not: json"},
            FILES,
            {"network_config": "not: json"},
            {},
        ),
    ],
)
def test_a_change_is_told_without_the_secret(old, new, before, after):
    seed = cloud_init.seed(VOLUME, PATH, new, None if old is None else cloud_init.image(old))
    assert (seed.before, seed.after) == (before, after)
    assert cloud_init.files_of(seed.image) == new
    assert "s3cret" not in repr(seed) and "0ther" not in repr(seed)


def laid(existing, wanted="", bus="", exact=True):
    """The definition with a seed laid over it."""
    there = parse(BARE % existing)
    stated = parse(BARE % wanted)
    cloud_init.lay(stated, there, PATH, bus)
    return overlay.overlay(there, stated, "web", {SEED} if exact else ())


def drives(domain):
    return {
        attribute_of(disk, "target", "dev"): (attribute_of(disk, "target", "bus"), attribute_of(disk, "source", "file"))
        for disk in domain.findall("devices/disk")
    }


def test_the_seed_has_a_drive_of_its_own():
    domain = laid(MEDIUM)
    assert drives(domain) == {"sda": ("sata", "/vm/iso/a.iso"), "sdb": ("scsi", PATH)}
    assert [one.get("model") for one in domain.findall("devices/controller[@type='scsi']")] == ["virtio-scsi"]
    again = laid(MEDIUM + DRIVE)
    assert drives(again) == drives(domain)
    assert again.find("devices/controller") is None


def test_it_keeps_the_bus_that_it_has_or_moves_to_the_stated_one():
    there = DRIVE.replace("scsi", "sata")
    assert drives(laid(there)) == {"sdb": ("sata", PATH)}
    assert [bus for bus, dummy in drives(laid(there, bus="scsi")).values()] == ["scsi"]


def test_a_medium_is_never_put_into_the_drive_of_the_seed():
    medium = "<disk type='file' device='cdrom'><source file='/vm/iso/b.iso'/><target bus='sata'/></disk>"
    domain = overlay.overlay(parse(BARE % DRIVE), parse(BARE % medium), "web")
    assert drives(domain) == {"sda": ("sata", "/vm/iso/b.iso"), "sdb": ("scsi", PATH)}


def test_without_a_seed_its_drive_goes_and_others_stay():
    domain = overlay.overlay(parse(BARE % (MEDIUM + DRIVE)), parse(BARE % ""), "web", {SEED})
    assert drives(domain) == {"sda": ("sata", "/vm/iso/a.iso")}


def test_a_definition_tells_that_there_is_one():
    terms = describe.definition(parse(BARE % (DRIVE + MEDIUM)))
    assert (terms["cloud_init"], terms["cdrom"]) == ("(set)", "/vm/iso/a.iso")
    before, after = describe.difference(parse(BARE % MEDIUM), parse(BARE % (MEDIUM + DRIVE)))
    assert (before, after) == ({}, {"cloud_init": "(set)"})


def planned(state, wanted, changes, running=None):
    domain = parse(BARE % MEDIUM)
    existing = plan.Existing("web", state, True, False, domain, running and parse(BARE % running))
    return plan.change(existing, Desired(UUID, "web", wanted), None, changes)


def test_it_is_written_before_the_machine_is_defined_and_started():
    seed = cloud_init.seed(VOLUME, PATH, FILES, None)
    changes = Changes(make={PATH: VOLUME}, seed=seed)
    made = plan.change(None, Desired(UUID, "web", "running"), Prediction(parse(BARE % DRIVE), True), changes)
    assert made.actions == [
        "create volume default/web-cloud-init.img",
        "write cloud-init seed default/web-cloud-init.img",
        "define",
        "start",
    ]
    assert made.after["cloud_init"] == {"user_data": "(set)", "meta_data": {"instance-id": "a"}}
    assert planned(states.RUNNING, "present", Changes(seed=seed)).actions == [
        "write cloud-init seed default/web-cloud-init.img"
    ]


@pytest.mark.parametrize(
    "state, wanted, running, deleted",
    [
        (states.SHUTOFF, "present", None, True),
        (states.SHUTOFF, "running", None, True),
        (states.RUNNING, "present", MEDIUM + DRIVE, False),
        (states.RUNNING, "present", MEDIUM, True),
        (states.RUNNING, "paused", MEDIUM + DRIVE, False),
        (states.RUNNING, "saved", MEDIUM + DRIVE, False),
        (states.RUNNING, "stopped", MEDIUM + DRIVE, True),
        (states.RUNNING, "restarted", MEDIUM + DRIVE, True),
        (states.CRASHED, "running", MEDIUM + DRIVE, True),
        (states.SAVED, "present", None, False),
        (states.SAVED, "running", None, False),
        (states.SAVED, "stopped", None, True),
    ],
)
def test_one_that_is_not_wanted_is_deleted_once_no_guest_has_it(state, wanted, running, deleted):
    made = planned(state, wanted, Changes(gone=(GONE,)), running)
    assert ("delete volume default/web-cloud-init.img" in made.actions) == deleted
    assert made.actions[-1:] == ["delete volume default/web-cloud-init.img"] or not deleted


def request(cloud):
    ((desired,), dummy) = machines({"vms": [{"uuid": UUID, "name": "web", "state": "present", "cloud_init": cloud}]})
    return desired


def test_requests():
    assert request(None).cloud_init is None and SEED not in request(None).exact
    assert request({}).cloud_init == {"files": {}} and SEED in request({}).exact
    stated = {"pool": "default", "bus": "", "files": FILES}
    assert request(stated).cloud_init == stated


@pytest.mark.parametrize(
    "cloud, problem",
    [
        ([], "vms[0].cloud_init must be an object"),
        ({"files": FILES}, "vms[0].cloud_init.pool is missing"),
        ({"pool": "p", "files": {"passwd": ""}}, "vms[0].cloud_init.files.passwd is not known"),
        ({"pool": "p", "files": {"user-data": ["s3cret"]}}, "vms[0].cloud_init.files.user-data must be a text"),
        ({"pool": "p", "bus": "virtio", "files": FILES}, "vms[0].cloud_init.bus is 'virtio'; one of"),
        ({"secret": 1}, "vms[0].cloud_init.secret is not known"),
    ],
)
def test_requests_that_are_refused(cloud, problem):
    with pytest.raises(MalformedRequest) as caught:
        request(cloud)
    assert caught.value.message.startswith(problem)
    assert "s3cret" not in caught.value.message
