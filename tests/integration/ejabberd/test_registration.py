# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who may make, change and remove which account (XEP-0077): the sentences of the role's README, one test each."""

from __future__ import annotations

import uuid

import pytest
from xmpp_stream import REMOVE, Refused


def test_a_hypervisor_registers_its_machines(platform, machine):
    with platform.stream() as stream:
        stream.login(*machine)


def test_a_hypervisor_registers_no_other_name(platform):
    names = ["hv3", "root", "admin2", str(uuid.uuid4())[:-1], str(uuid.uuid4()) + "0", "x" + str(uuid.uuid4())]
    with platform.stream_from(platform.hypervisors[0]) as stream:
        stream.login("hv1", platform.password("hv1"))
        for name in names:
            with pytest.raises(Refused, match="forbidden"):
                stream.register(name, "password")


@pytest.mark.parametrize("name", ["admin", "automation", "hv2"])
def test_a_hypervisor_changes_no_password_of_another(platform, name):
    with platform.stream_from(platform.hypervisors[0]) as stream:
        stream.login("hv1", platform.password("hv1"))
        with pytest.raises(Refused, match="forbidden"):
            stream.register(name, "stolen")
    with platform.stream() as stream:
        stream.login(name, platform.password(name))


def test_a_hypervisor_changes_no_password_of_a_machine(platform, machine):
    with platform.stream_from(platform.hypervisors[0]) as stream:
        stream.login("hv2", platform.password("hv2"))
        with pytest.raises(Refused, match="conflict"):
            stream.register(machine[0], "stolen")
    with platform.stream() as stream:
        stream.login(*machine)


def test_a_hypervisor_removes_no_account_not_even_its_own(platform, machine):
    name, password = machine
    named = "<query xmlns='jabber:iq:register'><remove/><username>%s</username><password>%s</password></query>"
    with platform.stream_from(platform.hypervisors[0]) as stream:
        stream.login("hv1", platform.password("hv1"))
        for payload in (REMOVE, named % (name, password)):
            with pytest.raises(Refused, match="forbidden"):
                stream.ask("set", payload, stream.domain)
    with platform.stream() as stream:
        stream.login(name, password)


def test_a_hypervisor_elsewhere_registers_nothing(platform):
    with platform.stream() as stream:
        stream.login("hv1", platform.password("hv1"))
        with pytest.raises(Refused, match="forbidden"):
            stream.register(str(uuid.uuid4()), "password")


def test_a_machine_changes_its_own_password(platform, machine):
    name, password = machine
    with platform.stream() as stream:
        stream.login(name, password).register(name, "second-password")
    with platform.stream() as stream, pytest.raises(Refused, match="not-authorized"):
        stream.login(name, password)
    with platform.stream() as stream:
        stream.login(name, "second-password").register(name, password)


def test_a_machine_removes_its_own_account(platform, machine):
    with platform.stream() as stream:
        stream.login(*machine).remove_account()
    with platform.stream() as stream, pytest.raises(Refused, match="not-authorized"):
        stream.login(*machine)


def test_a_machine_registers_nothing(platform, machine):
    with platform.stream_from(platform.hypervisors[0]) as stream:
        stream.login(*machine)
        with pytest.raises(Refused, match="forbidden"):
            stream.register(str(uuid.uuid4()), "password")


@pytest.mark.parametrize("name", ["admin", "automation"])
def test_a_person_registers_nothing_wherever_it_sits(platform, name):
    with platform.stream_from(platform.hypervisors[0]) as stream:
        stream.login(name, platform.password(name))
        for wanted in ("somebody", str(uuid.uuid4())):
            with pytest.raises(Refused, match="forbidden"):
                stream.register(wanted, "password")


def test_a_stream_without_login_registers_nothing(platform):
    with platform.stream() as stream:
        for name in ("somebody", "hv3", str(uuid.uuid4())):
            with pytest.raises(Refused, match="forbidden"):
                stream.register(name, "password")


def test_a_stream_without_login_on_a_hypervisor_registers_no_person(platform):
    with platform.stream_from(platform.hypervisors[0]) as stream:
        for name in ("somebody", "hv3", "admin"):
            with pytest.raises(Refused, match="forbidden"):
                stream.register(name, "password")
