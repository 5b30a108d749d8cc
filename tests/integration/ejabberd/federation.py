# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Two servers of two domains, with `ejabberd_s2s` on both: molecule/ejabberd runs this while there is a second one."""

from __future__ import annotations

import socket
import ssl

import pytest

OTHER = "other.test"
VERSION = "<query xmlns='jabber:iq:version'/>"


def test_a_person_asks_the_other_server_and_is_answered(platform):
    """The question goes over a stream of this server to the other, the answer over one of the other to this."""
    with platform.stream() as stream:
        stream.login("alice", platform.password("alice"))
        stream.patience(60)
        assert stream.ask("get", VERSION, OTHER).get("from") == OTHER


def test_a_server_must_encrypt_and_gets_the_certificate_of_the_domain(platform):
    with platform.stream(5269, namespace="jabber:server") as stream:
        assert stream.offers_starttls_only
        assert "{urn:xmpp:features:dialback}dialback" in [child.tag for child in stream.features]


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")  # naming the old version is the point
def test_a_server_with_old_tls_is_refused(platform):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")  # this side would offer it
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError):
        platform.stream(5269, namespace="jabber:server", context=context)


def test_a_server_that_does_not_encrypt_gets_no_further(platform):
    header = (
        "<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams'"
        f" xmlns:db='jabber:server:dialback' version='1.0' from='{OTHER}' to='{platform.domain}'>"
    )
    dialback = f"<db:result from='{OTHER}' to='{platform.domain}'>0123456789abcdef</db:result>"
    with socket.create_connection((platform.address(platform.xmpp), 5269), 10) as plain:
        plain.settimeout(30)
        plain.sendall((header + dialback).encode())
        answer = b""
        while data := plain.recv(65536):  # to the end of the stream, which is the server's doing
            answer += data
    assert b"policy-violation" in answer


def test_the_other_node_is_bound_to_the_address_in_its_name(platform):
    """It is the one whose Erlang is not on loopback: `ejabberd_distribution_address`."""
    host = platform.hypervisors[0]
    listening = [line.split()[3].rpartition(":") for line in platform.run(host, "ss -Hltn").splitlines()]
    assert {address for address, dummy, port in listening if port == "4369"} == {"127.0.0.1", platform.address(host)}
    world = {int(port) for address, dummy, port in listening if address in ("*", "0.0.0.0", "[::]")}
    assert world == {22, 5222, 5269, 5443}
    assert f"'ejabberd@{platform.address(host)}' is started" in platform.run(host, "ejabberdctl status")
