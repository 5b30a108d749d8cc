# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many declarations: what they have in common, and what is wrong between them."""

from __future__ import annotations

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.archipel.platform.plugins.module_utils import _declarations


def element(**options):
    result = ArgumentSpecValidator(_declarations.element_spec()).validate(options)
    assert not result.error_messages
    return result.validated_parameters


@pytest.mark.parametrize(
    ("defaults", "own", "expected"),
    [
        ({}, {"name": "a"}, {"name": "a"}),
        ({"memory": "1GiB", "force": True}, {"memory": "2GiB"}, {"memory": "2GiB", "force": True}),
        # Dictionaries key by key, at any depth.
        (
            {"cpu": {"mode": "host-model", "topology": {"sockets": 1, "cores": 2}}},
            {"cpu": {"topology": {"cores": 4}}},
            {"cpu": {"mode": "host-model", "topology": {"sockets": 1, "cores": 4}}},
        ),
        # A list as a whole, also one of dictionaries.
        ({"disks": [{"name": "root", "size": "1GiB"}]}, {"disks": [{"name": "data"}]}, {"disks": [{"name": "data"}]}),
        ({"tags": ["a"]}, {"tags": []}, {"tags": []}),
        ({"cpu": {"mode": "host-model"}}, {"cpu": "none"}, {"cpu": "none"}),
        ({"memory": "1GiB", "cpu": {"mode": "host-model"}}, {"memory": None, "cpu": {"mode": None}}, {"cpu": {}}),
    ],
)
def test_merging(defaults, own, expected):
    assert _declarations.merged(defaults, own) == expected


@pytest.mark.parametrize(
    ("specs", "problems"),
    [
        ([{"name": "a"}, {"name": "A"}], []),
        ([{"name": "a"}, {"name": "b"}, {"name": "a"}], ["2 (a): name 'a' is that of 0 too"]),
        (
            [{"uuid": "1AD53F2F-5b06-5d4e-9d1c-4d4f4b0a6f39"}, {"uuid": "1ad53f2f-5b06-5d4e-9d1c-4d4f4b0a6f39"}],
            ["1 (1ad53f2f-5b06-5d4e-9d1c-4d4f4b0a6f39): uuid '1ad53f2f-5b06-5d4e-9d1c-4d4f4b0a6f39' is that of 0 too"],
        ),
        ([{"name": "a", "depends_on": ["b"]}, {"name": "b"}], []),
        (
            [{"name": "a", "depends_on": ["c"], "vcpus": 0}],
            [
                "0 (a): vcpus: must be at least 1",
                "0 (a): depends_on: 'c' is the name of none of these declarations",
            ],
        ),
        ([{"name": "a", "depends_on": ["a"]}], ["0 (a): depends_on: goes in a circle: a needs a"]),
        (
            [
                {"name": "a", "depends_on": ["b"]},
                {"name": "b", "depends_on": ["c"]},
                {"name": "c", "depends_on": ["b", "d"]},
                {"name": "d"},
            ],
            ["1 (b): depends_on: goes in a circle: b needs c needs b"],
        ),
        (
            [{"name": "a", "depends_on": ["b"]}, {"name": "b", "boot_group": 1}],
            ["0 (a): depends_on: 'b' is in a later boot_group"],
        ),
    ],
)
def test_problems(specs, problems):
    labels = [str(number) for number in range(len(specs))]
    assert _declarations.problems([element(**one) for one in specs], labels) == problems
