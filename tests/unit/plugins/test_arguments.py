# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that is wrong with a module's options, in one message, and no secret in it."""

from __future__ import annotations

import json

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.archipel.platform.plugins.module_utils import _arguments, _spec
from ansible_collections.archipel.platform.plugins.modules import archipel_fleet, archipel_vm

CONNECTION = {"jid": "automation@archipel.test", "password": "door-key"}


def refusal(module, capsys, **options):
    """What a module that refuses its options prints."""
    with patch_module_args({**CONNECTION, **options}), pytest.raises(SystemExit):
        module.main()
    return json.loads(capsys.readouterr().out)


def test_all_that_is_wrong_with_a_machine_is_one_message(capsys):
    result = refusal(
        archipel_vm,
        capsys,
        name="web",
        memroy="1GiB",
        memory="1GB",
        state="runing",
        vcpus="two",
        wait_timeout="long",
        port="x",
        disks=[{"name": "root", "size": "1"}],
        networks=[{"network": "default"}, {"network": "default", "user": "perhaps", "bandwidth": {"inbound": 3}}],
        graphics=[{"type": "rdp", "password": "too long a word", "port": "high"}, "junk"],
        video={},
    )
    assert result["msg"].split("; ") == [
        "memroy: is no option",
        "memory is",
        "port: 'x' must be a whole number",
        "state: 'runing' must be one of present, running, stopped, paused, saved, restarted, absent",
        "wait_timeout: 'long' must be a number",
        "vcpus: 'two' must be a whole number",
        "networks[1].user: 'perhaps' must be true or false",
        "networks[1].bandwidth.inbound: must be a dictionary",
        "graphics[0].type: 'rdp' must be one of vnc, spice",
        "graphics[0].port: 'high' must be a whole number",
        "graphics[1]: must be a dictionary, not a text",
        "video.model: is required",
        "memory: '1GB' has the unknown unit 'GB'",
        "known are B, KiB, MiB, GiB, TiB",
        "disks[0].size: '1' has no unit",
        "write 1MiB or 1GiB",
    ]


def test_a_machine_with_something_wrong_is_judged_for_the_rest_and_so_are_others(capsys):
    vms = [{"name": "a", "memory": "1", "vcpus": "x", "disk": []}, "junk", {"vcpus": 0}, {"name": "a", "state": "on"}]
    assert refusal(archipel_fleet, capsys, vms=vms)["msg"] == (
        "vms[0] (a): disk: is no option; disks is; "
        "vms[0] (a): vcpus: 'x' must be a whole number; "
        "vms[1]: must be a dictionary, not a text; "
        "vms[3] (a): state: 'on' must be one of present, running, stopped, paused, saved, restarted, absent; "
        "vms[0] (a): memory: '1' has no unit; write 1MiB or 1GiB; "
        "vms[2]: name: one of name and uuid is required; "
        "vms[2]: vcpus: must be at least 1; "
        "vms[3] (a): name 'a' is that of vms[0] too"
    )


def test_a_list_that_is_none(capsys):
    assert refusal(archipel_fleet, capsys, vms={"name": "a"})["msg"] == "vms: must be a list"
    assert refusal(archipel_fleet, capsys)["msg"] == "one of the following is required: vms, vms_dir, selector"


@pytest.mark.parametrize(
    "wrong",
    [
        {"vms": ["junk", {"name": "a", "graphics": [{"password": "s3cret"}]}]},
        {"vms": [{"name": "a", "graphics": {"password": ["s3cret"], "port": "x"}, "vcpus": "x"}]},
        {"vms": [{"name": "a", "graphics": ["password is s3cret"]}]},
        {"vms": [{"name": "a", "graphics": "s3cret"}]},
        {"vms": [{"name": "a", "graphics": [{"pasword": "s3cret"}]}]},
        {"vms": [{"name": "a", "xml": "<s3cret"}]},
        {"vms": "s3cret"},
    ],
)
def test_no_secret_is_shown_of_what_is_wrong(capsys, wrong):
    result = refusal(archipel_fleet, capsys, **wrong)
    assert result["failed"]
    assert "s3cret" not in json.dumps(result)
    assert "door-key" not in json.dumps(result)


def test_what_is_right_is_read_as_ansible_reads_it():
    given = {"name": "web", "vcpus": "2", "force": "yes", "disks": ["name=root size=1GiB"], "tags": "a,b"}
    reading = _arguments.Reading(_spec.argument_spec(), given)
    assert reading.problems == []
    assert reading.values["vcpus"] == 2
    assert reading.values["force"] is True
    assert reading.values["tags"] == ["a", "b"]
    assert reading.values["state"] == "present"
    assert reading.values["memory"] is None
    assert [(disk["name"], disk["size"], disk["pool"]) for disk in reading.values["disks"]] == [("root", "1GiB", None)]
