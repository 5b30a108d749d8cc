# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the XMPP server offers, to whom, and on which addresses."""

from __future__ import annotations

import contextlib
import re
import shlex
import socket
import ssl
import time

import pytest
from xmpp_stream import CLIENT, Refused

ROSTER = "<query xmlns='jabber:iq:roster'/>"
VERSION = "<query xmlns='jabber:iq:version'/>"
STATUSES = """
import sys, urllib.error, urllib.request
for path in sys.argv[2:]:
    try:
        print(urllib.request.urlopen(sys.argv[1] + path, timeout=10).status)
    except urllib.error.HTTPError as error:
        print(error.code)
"""


def test_published_items_are_in_memory_and_on_disk(platform):
    files = platform.run(platform.xmpp, "ls /var/lib/ejabberd").split()
    # Mnesia's files of a table that is in memory, too, and of one that is not.
    assert "pubsub_item.DCD" in files and "pubsub_item.DAT" not in files


def test_clients_get_starttls_and_scram_only(platform):
    with platform.stream() as stream:
        assert stream.offers_starttls_only
        assert {name.partition("-")[0] for name in stream.mechanisms()} == {"SCRAM"}


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")  # naming the old version is the point
@pytest.mark.parametrize("version, accepted", [("TLSv1_1", False), ("TLSv1_2", True), ("TLSv1_3", True)])
@pytest.mark.parametrize("port", [5222, 5443])
def test_tls_below_1_2_is_refused(platform, port, version, accepted):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(platform.ca_file)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")  # this side would offer it
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    try:
        if port == 5222:
            with platform.stream(context=context):
                pass
        else:
            with socket.create_connection((platform.address(platform.xmpp), port), 10) as plain:
                context.wrap_socket(plain, server_hostname=platform.domain).close()
    except ssl.SSLError as error:
        # The server's doing: 23.01 closes the connection, 24.12 says why.
        assert not accepted and ("ALERT_PROTOCOL_VERSION" in str(error) or isinstance(error, ssl.SSLEOFError))
    else:
        assert accepted


def test_a_certificate_of_another_authority_is_refused(platform):
    with socket.create_connection((platform.address(platform.xmpp), 5443), 10) as plain:
        with pytest.raises(ssl.SSLCertVerificationError):
            ssl.create_default_context().wrap_socket(plain, server_hostname=platform.domain)


def test_ports_are_bound_where_they_are_meant_to_be(platform):
    listening = platform.run(platform.xmpp, "ss -Hltn").splitlines()
    addresses = [re.fullmatch(r"(.*):(\d+)", line.split()[3]).groups() for line in listening]
    world = {int(port) for address, port in addresses if address.strip("[]") not in ("127.0.0.1", "::1")}
    assert world - {22} == {5222, 5443}
    assert {4369, 4560, 5280} <= {int(port) for address, port in addresses if address == "127.0.0.1"}


def test_a_reverse_proxy_on_the_server_finds_bosh_and_websocket_and_nothing_else(platform):
    paths = {"bosh": 200, "http-bind": 200, "ws": 200, "xmpp": 200, "api/status": 404, "admin": 404}
    answers = platform.run(platform.xmpp, shlex.join(["python3", "-c", STATUSES, "http://127.0.0.1:5280/", *paths]))
    assert dict(zip(paths, map(int, answers.split()))) == paths


def test_automation_sees_the_hypervisors_and_their_presence(platform):
    with platform.stream() as hypervisor, platform.stream() as automation:
        hypervisor.login("hv1", platform.password("hv1"), "probe").write("<presence/>")
        automation.login("automation", platform.password("automation"))
        roster = automation.ask("get", ROSTER)
        # Who subscribed to a machine has that contact besides, in no group.
        groups = {
            item.get("jid"): (item.get("subscription"), [group.text for group in item])
            for item in roster.iter("{jabber:iq:roster}item")
            if len(item)
        }
        assert groups == {f"{name}@{platform.domain}": ("both", ["hypervisors"]) for name in ("hv1", "hv2")}
        automation.write("<presence/>")
        sender = f"hv1@{platform.domain}/probe"
        while True:
            stanza = automation.read()
            if stanza.tag == CLIENT + "presence" and stanza.get("from") == sender:
                break


def test_requests_pass_between_automation_and_a_hypervisor(platform):
    with platform.stream() as hypervisor, platform.stream() as automation:
        hypervisor.login("hv1", platform.password("hv1"), "probe")
        automation.login("automation", platform.password("automation"), "probe")
        for here, there, target in ((automation, hypervisor, "hv1"), (hypervisor, automation, "automation")):
            here.write(f"<iq type='get' id='x' to='{target}@{platform.domain}/probe'>{VERSION}</iq>")
            request = there.read()
            assert request.get("id") == "x"
            there.write("<iq type='result' id='x' to='{}'/>".format(request.get("from")))
            assert here.read().get("type") == "result"


def test_a_request_to_an_offline_hypervisor_is_answered_at_once(platform):
    with platform.stream() as stream:
        stream.login("automation", platform.password("automation"))
        started = time.monotonic()
        with pytest.raises(Refused, match="service-unavailable"):
            stream.ask("get", VERSION, f"hv2@{platform.domain}/nowhere")
        assert time.monotonic() - started < 1


def test_two_hundred_sessions_of_automation_do_not_end_each_other(platform):
    password = platform.password("automation")
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(platform.stream()).login("automation", password, f"t{n}") for n in range(200)]
        for stream in streams:
            stream.ask("get", VERSION, platform.domain)


def test_a_hypervisor_sends_a_large_definition_at_once_but_not_a_boundless_one(platform):
    with platform.stream() as stream:
        stream.login("hv1", platform.password("hv1"))
        # Answered within the stream's timeout: no shaper holds it up. The server knows no such namespace.
        with pytest.raises(Refused, match="service-unavailable"):
            stream.ask("set", f"<query xmlns='archipel:test'>{'x' * 3_000_000}</query>", platform.domain)
        with pytest.raises((ConnectionError, ssl.SSLError)):
            stream.ask("set", f"<query xmlns='archipel:test'>{'x' * 5_000_000}</query>", platform.domain)


def test_a_thousand_connections_may_wait(platform):
    assert platform.run(platform.xmpp, "ss -Hltn sport = :5222").split()[2] == "1024"


def test_no_password_is_in_a_log(platform):
    search = "grep -rlF {0} /var/log --exclude-dir journal; journalctl --no-pager | grep -F {0}"
    assert platform.run(platform.xmpp, search.format("SCRAM-SHA-1"), check=False) != ""  # it finds what is there
    secrets = platform.run(platform.xmpp, "ls /etc/archipel/secrets/*").split()
    assert len(secrets) > 4
    found = [platform.run(platform.xmpp, search.format("-f " + path), check=False) for path in secrets]
    assert "".join(found) == ""
