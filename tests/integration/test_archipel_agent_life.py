# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The agent lives on: its configuration changes under it, a machine hangs, libvirtd hangs, it hangs itself."""

from __future__ import annotations

import contextlib
import secrets
import shlex
import uuid as uuidlib

import pytest
from people import CONTROL, HYPERVISOR, Failed, Machine, Person, answers, manage, until
from xmpp_stream import CLIENT

CONFIGURATION = "/etc/archipel/archipel.conf"
RUNNING = "systemctl show -P MainPID -P ActiveEnterTimestampMonotonic archipel-agent"


@pytest.fixture
def configuration(platform):
    """edit(SED SCRIPT) on the first hypervisor's configuration; what was there comes back."""
    host = platform.hypervisors[0]
    platform.run(host, f"cp -p {CONFIGURATION} {CONFIGURATION}.kept")

    def edit(script: str) -> None:
        platform.run(host, f"sed -i {shlex.quote(script)} {CONFIGURATION}")

    yield edit
    platform.run(host, f"mv {CONFIGURATION}.kept {CONFIGURATION} && systemctl reload archipel-agent")


@pytest.fixture
def patient(platform):
    """The automation account, on a stream that waits longer than libvirt may take."""
    with platform.stream() as stream:
        stream.patience(60)
        stream.login("automation", platform.password("automation"), uuidlib.uuid4().hex)
        stream.write("<presence/>")
        yield Person(stream, platform.domain)


def log(machine, since):
    return machine.run(f"journalctl -u archipel-agent -o cat --since @{since}")


def now(machine):
    return machine.run("date +%s").strip()


def test_a_reload_takes_grants_timeouts_and_the_level_of_the_log_over(managed, account, configuration):
    somebody = "reader-" + secrets.token_hex(4)
    reader = account(somebody)
    with pytest.raises(Failed, match="lacks the permission 'info'"):
        reader.act(managed.jid, CONTROL, "info")
    before = managed.run(RUNNING)
    configuration(f"s/^\\[GRANTS\\]/&\\n{somebody}@{reader.domain} = info/")
    configuration("s/^logging_level = .*/logging_level = debug/")
    managed.run("systemctl reload archipel-agent")
    until(lambda: permitted(reader, managed))
    begun = now(managed)
    reader.act(managed.jid, CONTROL, "info")
    # Only at this level reading is logged.
    assert f"DEBUG {somebody}@" in log(managed, begun)
    configuration(f"/^{somebody}/d")
    managed.run("systemctl reload archipel-agent")
    until(lambda: not permitted(reader, managed))
    assert managed.run(RUNNING) == before


def permitted(person, machine):
    try:
        return person.act(machine.jid, CONTROL, "info")
    except Failed as fault:
        assert "lacks the permission" in fault.text
        return False


def test_a_configuration_that_is_wrong_is_refused_and_the_old_one_stays(managed, automation, configuration):
    before, begun = managed.run(RUNNING), now(managed)
    configuration("s/^logging_level = .*/logging_level = loud/")
    told = "[LOGGING] logging_level = 'loud': must be one of debug, info, warning, error"
    assert "exit 1" in managed.run("systemctl reload archipel-agent || echo exit $?")
    assert told in log(managed, begun)
    # Without systemd's check before it.
    managed.run("systemctl kill --signal=HUP archipel-agent")
    until(lambda: f"the configuration stays as it was: {CONFIGURATION}: {told}" in log(managed, begun))
    assert managed.run(RUNNING) == before
    assert answers(automation, managed.jid) is not None
    assert told in managed.run("archipel-agent --check-config 2>&1", check=False)


def test_a_change_that_only_a_start_takes_over_brings_one(managed, automation, configuration):
    process, begun = managed.run("systemctl show -P MainPID archipel-agent"), now(managed)
    configuration("s/^xmpp_port = .*/xmpp_port = 5221/")
    managed.run("systemctl reload archipel-agent")
    until(lambda: "the agent starts anew, because xmpp_port changed" in log(managed, begun))
    until(lambda: ":5221: " in log(managed, begun))
    configuration("s/^xmpp_port = .*/xmpp_port = 5222/")
    managed.run("systemctl reload archipel-agent")
    until(lambda: answers(automation, managed.jid))
    assert managed.run("systemctl show -P MainPID -P NRestarts archipel-agent").split() == [process.strip(), "0"]


def test_the_log_may_be_moved_away(managed, automation):
    managed.run("logrotate -f /etc/logrotate.d/archipel-agent")
    automation.act(managed.jid, CONTROL, "destroy")
    assert f"{managed.jid} for {CONTROL} destroy" in managed.run("cat /var/log/archipel/archipel.log")


def test_nobody_writes_lines_of_his_own_into_the_log(managed, automation, hypervisor):
    begun = now(managed)
    forged = r'{"\nINFO forged": 1, "\ud800": 2}'
    with pytest.raises(Failed, match="is not known"):
        automation.act(hypervisor, "archipel:declaration", "plan", forged)
    assert "INFO forged" in log(managed, begun)
    for said in (log(managed, begun), managed.run("cat /var/log/archipel/archipel.log")):
        assert not [line for line in said.splitlines() if line.startswith("INFO forged")]
        assert "Logging error" not in said


@contextlib.contextmanager
def stopped(machine, pattern):
    """A process that hangs: nothing of it goes on, and nobody is told."""
    process = machine.run(f"pgrep -o -f {shlex.quote(pattern)}").strip()
    machine.run(f"kill -STOP {process}")
    try:
        yield
    finally:
        machine.run(f"kill -CONT {process}", check=False)


@pytest.fixture
def neighbour(platform, automation, hypervisor):
    """Another machine of the same hypervisor."""
    machine = Machine(platform).define()
    manage(automation, hypervisor, machine)
    yield machine
    automation.act(hypervisor, HYPERVISOR, "unmanage", f"<item jid='{machine.bare}'/>")
    machine.remove()


def test_a_machine_that_hangs_hangs_alone(managed, neighbour, patient, automation, hypervisor, configuration):
    # Longer than anybody else's patience.
    configuration("s/^libvirt_timeout = .*/libvirt_timeout = 15/")
    managed.run("systemctl reload archipel-agent")
    patient.act(managed.jid, CONTROL, "create")
    with stopped(managed, f"guest={managed.name}"):
        tag, count = uuidlib.uuid4().hex, 60
        for number in range(count):
            action = ("suspend", "resume")[number % 2]
            query = f"<query xmlns='{CONTROL}'><archipel action='{action}'/></query>"
            patient.stream.write(f"<iq type='set' id='{tag}{number}' to='{managed.jid}'>{query}</iq>")
        for person in (patient, automation):
            person.stream.patience(10)
            person.act(neighbour.jid, CONTROL, "create")
            person.act(neighbour.jid, CONTROL, "destroy")
            person.act(hypervisor, HYPERVISOR, "rostervm")
            person.act(hypervisor, "archipel:declaration", "inventory", "{}")
        patient.stream.patience(60)
        told = [text(patient, tag) for dummy in range(count)]
        assert "libvirt did not finish 'suspend' within 15 s" in told
        assert all("libvirt did not finish" in one or "on this domain has not come back" in one for one in told)
    until(lambda: recovered(automation, managed))
    managed.virsh("destroy")


def recovered(person, machine):
    try:
        return person.act(machine.jid, CONTROL, "info")
    except Failed as fault:
        assert "has not come back" in fault.text
        return None


def text(person, tag):
    """The text of the next error that answers a request whose id begins with ``tag``."""
    while True:
        stanza = person.stream.read()
        if stanza.get("id", "").startswith(tag):
            return stanza.find(CLIENT + "error").findtext(CLIENT + "text")


def test_libvirtd_may_hang(managed, automation):
    automation.stream.write(f"<presence type='subscribe' to='{managed.bare}'/>")
    automation.shows(managed.jid, "Off")
    automation.stream.patience(60)
    with stopped(managed, "/usr/sbin/libvirtd"):
        # The agent goes on, and finds out.
        automation.stream.ask("get", "<ping xmlns='urn:xmpp:ping'/>", managed.jid)
        assert automation.shows(managed.jid, "Libvirt connection lost", 60) == "dnd"
        with pytest.raises(Failed, match="libvirt is out of reach"):
            automation.act(managed.jid, CONTROL, "create")
    assert automation.shows(managed.jid, "Off", 60) == "xa"
    automation.act(managed.jid, CONTROL, "create")


def test_an_agent_that_hangs_is_replaced(managed, automation):
    unit = "/run/systemd/system/archipel-agent.service.d"
    managed.run(f"mkdir -p {unit} && printf '[Service]\\nWatchdogSec=2\\n' > {unit}/watchdog.conf")
    try:
        managed.run("systemctl daemon-reload && systemctl restart archipel-agent")
        process = managed.run("systemctl show -P MainPID archipel-agent").strip()
        managed.run(f"kill -STOP {process}")
        until(lambda: managed.run("systemctl show -P MainPID archipel-agent").strip() not in (process, "0"))
        until(lambda: answers(automation, managed.jid))
        assert "Watchdog timeout" in managed.run("journalctl -u archipel-agent -n 50 -o cat")
    finally:
        managed.run(f"rm -r {unit} && systemctl daemon-reload && systemctl restart archipel-agent")
        until(lambda: answers(automation, managed.jid))
