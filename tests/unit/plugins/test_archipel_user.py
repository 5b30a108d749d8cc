# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Accounts and groups: the steps from what is to what is declared, and how they are shown."""

from __future__ import annotations

import pytest
from ansible_collections.archipel.platform.plugins.module_utils._ejabberd_api import Group
from ansible_collections.archipel.platform.plugins.module_utils._errors import Conflict, InvalidSpec
from ansible_collections.archipel.platform.plugins.modules import archipel_user as module
from ansible_collections.archipel.platform.plugins.modules.archipel_user import Account, Plan

A, B = "a@example.org", "b@example.org"
OPS = Group("Operators", "On duty", ("ops",), (A,))


def options(**given):
    common = {"state": "present", "update_password": "always", "append": False}
    return {**dict.fromkeys(("groups", "label", "description", "displayed", "members")), **common, **given}


@pytest.mark.parametrize(
    ("existing", "declared", "steps"),
    [
        (Account(False), options(state="absent"), Plan()),
        (Account(True), options(state="absent"), Plan(delete=True)),
        (Account(True, ("g",)), options(state="absent"), Plan(delete=True, remove=("g",))),
        # Memberships outlive an account that was removed otherwise.
        (Account(False, ("g",)), options(state="absent"), Plan(remove=("g",))),
        (Account(False), options(), Plan(create=True)),
        (Account(False), options(groups=["h", "g"]), Plan(create=True, add=("g", "h"))),
        (Account(True), options(), Plan()),
        (Account(True, ("g",)), options(), Plan()),
        (Account(True, ("g",)), options(groups=["g"]), Plan()),
        (Account(True, ("g",)), options(groups=["h"]), Plan(add=("h",), remove=("g",))),
        (Account(True, ("g",)), options(groups=["h"], append=True), Plan(add=("h",))),
        (Account(True, ("g",)), options(groups=[]), Plan(remove=("g",))),
        (Account(True, password_differs=True), options(), Plan(password=True)),
        (Account(True, password_differs=True), options(update_password="on_create"), Plan()),
    ],
)
def test_account_plan(existing, declared, steps):
    assert module.account_plan(existing, declared) == steps
    assert steps.changed is (steps != Plan())


@pytest.mark.parametrize(
    ("existing", "declared", "steps"),
    [
        (None, options(state="absent"), Plan()),
        (OPS, options(state="absent"), Plan(delete=True)),
        (None, options(), Plan(create=True, write=Group("ops", "", (), ()))),
        (
            None,
            options(label="", members=[B, A]),
            Plan(create=True, write=Group("", "", (), (A, B)), add=(A, B)),
        ),
        (OPS, options(), Plan()),
        (OPS, options(label="Operators", description="On duty", displayed=["ops"], members=[A]), Plan()),
        (OPS, options(description=""), Plan(write=OPS._replace(description=""))),
        (OPS, options(displayed=["y", "x"]), Plan(write=OPS._replace(displayed=("x", "y")))),
        (OPS, options(members=[B]), Plan(add=(B,), remove=(A,))),
        (OPS, options(members=[B], append=True), Plan(add=(B,))),
        (OPS, options(members=[]), Plan(remove=(A,))),
        # Options of others do not matter until the group's own must be written.
        (OPS._replace(others=("all_users",)), options(members=[A]), Plan()),
    ],
)
def test_group_plan(existing, declared, steps):
    assert module.group_plan(existing, {**declared, "group": "ops"}) == steps


@pytest.mark.parametrize(
    ("existing", "declared", "before", "after"),
    [
        (
            Account(False),
            options(groups=["g"]),
            {"state": "absent", "groups": []},
            {"state": "present", "groups": ["g"], "password": "(set)"},
        ),
        (
            Account(True, ("h",), True),
            options(groups=["g"], append=True),
            {"state": "present", "groups": ["h"], "password": "(set)"},
            {"state": "present", "groups": ["g", "h"], "password": "(changed)"},
        ),
        (
            Account(True, ("g",)),
            options(state="absent"),
            {"state": "present", "groups": ["g"]},
            {"state": "absent"},
        ),
        (Account(True), options(), {"state": "present"}, {"state": "present"}),
    ],
)
def test_an_account_is_shown_without_its_password(existing, declared, before, after):
    result = module.account_result(A, existing, declared, module.account_plan(existing, declared))
    assert (result.before, result.after) == ({"jid": A, **before}, {"jid": A, **after})
    assert "password" not in result.resource()


@pytest.mark.parametrize(
    ("name", "jid"), [("a", A), ("A", A), ("a@Example.org/home", A), ("a@elsewhere.org", "a@elsewhere.org")]
)
def test_names_are_localparts_or_jids(name, jid):
    assert module.full(name, "example.org", "name") == jid


@pytest.mark.parametrize("name", ["", "a b", "a@", "@example.org", 'a"b', "a@b@example.org", "example.org/a"])
def test_what_is_no_name_is_refused(name):
    with pytest.raises(InvalidSpec, match="^members: "):
        module.full(name, "example.org", "members")


def test_a_group_that_is_not_there_is_named():
    module.missing(["g"], ["g", "h"], "groups", "example.org")
    with pytest.raises(Conflict, match="^displayed: there is no group 'x' in example.org$"):
        module.missing(["g", "x"], ["g"], "displayed", "example.org")
