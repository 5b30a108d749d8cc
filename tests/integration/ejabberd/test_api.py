# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who may call the server's API: over HTTPS from outside, over XML-RPC on the server itself."""

from __future__ import annotations

import base64
import json
import re
import shlex
import socket
import ssl
import urllib.error
import urllib.request

import pytest

GROUP = "test-api"
# Called in this order: the second and third need what the one before leaves.
CALLS = ["registered_users", "srg_create", "srg_delete"]
XML_RPC = """
import json, sys, xmlrpc.client
user, domain, address, arguments = sys.argv[1:]
login = [{"user": user, "server": domain, "password": sys.stdin.read().strip(), "admin": True}] if user else []
server = xmlrpc.client.ServerProxy(address)
for command, argument in json.loads(arguments):
    try:
        getattr(server, command)(*login, argument)
        print("ok")
    except xmlrpc.client.Fault as fault:
        print("fault", fault.faultCode)
"""


def arguments(platform) -> list[tuple[str, dict]]:
    """CALLS with what each is called with: from 24.12 on, the groups that a group sees are a list."""
    version = re.search(r"ejabberd (\d+\.\d+)", platform.run(platform.xmpp, "ejabberdctl status"))[1]
    group = {"host": platform.domain, "group": GROUP}
    create = {**group, "label": GROUP, "description": "", "display": [] if float(version) >= 24.12 else ""}
    return [("registered_users", {"host": platform.domain}), ("srg_create", create), ("srg_delete", group)]


class Https:
    """What HTTPS offers, to one account, or to nobody."""

    def __init__(self, platform, user: str | None) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.check_hostname = False  # the address is asked, the certificate is the domain's
        self._context.load_verify_locations(platform.ca_file)
        self._domain = platform.domain
        self._url = f"https://{platform.address(platform.xmpp)}:5443/"
        self._headers = {"Content-Type": "application/json"}
        if user:
            login = f"{user}@{platform.domain}:{platform.password(user)}"
            self._headers["Authorization"] = "Basic " + base64.b64encode(login.encode()).decode()

    def call(self, command: str, argument: dict) -> int:
        """The status of the answer."""
        return self._status("api/" + command, json.dumps(argument).encode())

    def admin(self) -> int:
        """The status of the web administration's list of accounts; its first page is nobody's secret."""
        return self._status(f"admin/server/{self._domain}/users/", None)

    def _status(self, path: str, data: bytes | None) -> int:
        request = urllib.request.Request(self._url + path, data, self._headers)
        try:
            with urllib.request.urlopen(request, timeout=10, context=self._context) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code


@pytest.mark.parametrize(
    "user, status", [("admin", 200), ("automation", 403), ("hv1", 403), ("alice", 403), (None, 403)]
)
def test_only_administrators_call_the_api(platform, user, status):
    https = Https(platform, user)
    assert [https.call(*call) for call in arguments(platform)] == [status] * len(CALLS)


@pytest.mark.parametrize("user", ["automation", "hv1", "alice"])
def test_no_other_account_calls_any_command(platform, user):
    account = {"user": "admin", "host": platform.domain}
    calls = {
        "change_password": {**account, "newpass": "stolen"},
        "register": {"user": "hv3", "host": platform.domain, "password": "stolen"},
        "srg_user_add": {"user": user, "host": platform.domain, "group": "automation", "grouphost": platform.domain},
        "unregister": account,
    }
    # Of the others, those that take no arguments: 23.01 looks at the arguments first.
    listing = platform.run(platform.xmpp, "ejabberdctl help commands")
    calls |= {command: {} for command in re.findall(r"^    ([a-z]\w+) *$", listing, re.MULTILINE)}
    assert len(calls) > 30
    https = Https(platform, user)
    # 404: no command of the API; ejabberdctl has some of its own.
    answers = {command: https.call(command, argument) for command, argument in calls.items()}
    assert {command: status for command, status in answers.items() if status not in (403, 404)} == {}
    assert answers["register"] == answers["change_password"] == 403


@pytest.mark.parametrize("user, status", [("admin", 200), ("automation", 401), ("hv1", 401), (None, 401)])
def test_only_administrators_enter_the_web_administration(platform, user, status):
    assert Https(platform, user).admin() == status


def test_nobody_stops_the_server_through_the_api(platform):
    assert Https(platform, "admin").call("stop", {}) in (403, 404)


def xml_rpc(platform, user: str, path: str = "/") -> list[str]:
    """What the server answers on itself, a line for each of CALLS."""
    source = "/etc/archipel/secrets/" + user if user else "/dev/null"
    argument = [user, platform.domain, "http://127.0.0.1:4560" + path, json.dumps(arguments(platform))]
    return platform.run(platform.xmpp, f"{shlex.join(['python3', '-c', XML_RPC, *argument])} < {source}").splitlines()


@pytest.mark.parametrize("path", ["/", "/RPC2"])
def test_an_administrator_calls_xml_rpc_on_the_server_itself(platform, path):
    assert xml_rpc(platform, "admin", path) == ["ok"] * len(CALLS)


@pytest.mark.parametrize("user", ["automation", "hv1", "alice", ""])
def test_nobody_else_does_not_even_from_loopback(platform, user):
    assert xml_rpc(platform, user) == ["fault -118"] * len(CALLS)


@pytest.mark.parametrize("port", [4369, 4560, 5280])
def test_what_is_for_the_server_itself_is_reached_from_nowhere_else(platform, port):
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((platform.address(platform.xmpp), port), 10)
