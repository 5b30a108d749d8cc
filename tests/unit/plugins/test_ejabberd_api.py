# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""ejabberd's API: the forms that 23.01 and 24.12 answer in, as they came from real servers, and what errors tell."""

from __future__ import annotations

import http.server
import socket
import threading
import xmlrpc.client

import pytest
from ansible_collections.archipel.platform.plugins.module_utils import _ejabberd_api as module
from ansible_collections.archipel.platform.plugins.module_utils._connection import Options
from ansible_collections.archipel.platform.plugins.module_utils._ejabberd_api import (
    Api,
    ArgumentsRefused,
    CommandFailed,
    Group,
    Https,
)
from ansible_collections.archipel.platform.plugins.module_utils._errors import (
    AuthenticationFailed,
    InvalidSpec,
    NoAnswer,
    ServerUnreachable,
)
from ansible_collections.archipel.platform.plugins.module_utils.archipel_protocol.errors import PermissionDenied

ADMIN = Options("admin@example.org", "admin's secret", timeout=5)


@pytest.mark.parametrize(
    "answer",
    [["a", "b"], {"users": ["a", "b"]}, {"users": [{"username": "a"}, {"username": "b"}]}],
    ids=["https", "xmlrpc 24.12", "xmlrpc 23.01"],
)
def test_lists(answer):
    assert module.elements(answer) == ["a", "b"]
    assert module.elements({"users": []}) == []


@pytest.mark.parametrize(
    "answer",
    [
        [{"key": "label", "value": "L"}, {"key": "description", "value": ""}],
        {"informations": [{"key": "label", "value": "L"}, {"key": "description", "value": "[]"}]},
        {
            "informations": [
                {"information": [{"key": "label"}, {"value": "L"}]},
                {"information": [{"key": "description"}, {"value": "[]"}]},
            ]
        },
    ],
    ids=["https", "xmlrpc 24.12", "xmlrpc 23.01"],
)
def test_options_of_a_group(answer):
    assert module.pairs(answer) == {"label": "L", "description": ""}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", ()),
        ("b", ("b",)),
        ("b\na", ("a", "b")),
        ("b\n, \na", ("a", "b")),
        ('["b","a"]', ("a", "b")),
        ('["b",", ","a"]', ("a", "b")),
        ('["k ü",[120,226,130,172]]', ("k ü", "x€")),
    ],
)
def test_displayed_groups(text, names):
    assert module.displayed_groups(text) == names


@pytest.mark.parametrize(
    ("answer", "code"), [(0, 0), (1, 1), ({"res": 1}, 1), ({"res": 0, "text": ""}, 0), ({"text": ""}, 0), ("ok", 0)]
)
def test_result_code(answer, code):
    assert module.result_code(answer) == code


@pytest.mark.parametrize(
    ("status", "text", "kind", "message"),
    [
        (
            401,
            "You are not authorized to call this command.",
            AuthenticationFailed,
            "refused jid and password of admin@",
        ),
        (403, "AccessRules: Account does not have the right", PermissionDenied, "does not permit srg_list to admin@"),
        (404, "Endpoint not found.", CommandFailed, "has no command srg_list; check that mod_admin_extra is loaded"),
        (404, "unknown_user", CommandFailed, "refused srg_list: unknown_user"),
        (400, "Arg <<>> is not in format {list,{group,binary}}", ArgumentsRefused, "refused srg_list"),
        (500, "internal_error", CommandFailed, "refused srg_list: internal_error"),
        (502, "", CommandFailed, "refused srg_list: HTTP 502"),
    ],
)
def test_errors_of_the_http_api(status, text, kind, message):
    error = Https(ADMIN, 5443)._error("srg_list", status, text)
    assert error.__class__ is kind  # and none of its branches
    assert message in error.message


class Server:
    """An XML-RPC listener that gives prepared answers, each once; an answer of None closes the connection."""

    def __init__(self):
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                server.asked.append(xmlrpc.client.loads(body))
                answer = server.answers.pop(0)
                if answer is None:
                    return
                self.send_response(200)
                self.end_headers()
                self.wfile.write(answer if isinstance(answer, bytes) else response(answer))

            def log_message(self, *args):
                """Tests are quiet."""

        self.asked, self.answers = [], []
        self.http = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        self.api = Api(ADMIN, "xmlrpc", self.http.server_port)


def response(answer):
    answer = answer if isinstance(answer, xmlrpc.client.Fault) else (answer,)
    return xmlrpc.client.dumps(answer, methodresponse=True).encode()


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.http.shutdown()
    thread.join()
    server.http.server_close()


def test_a_call_carries_the_login(server):
    server.answers = [{"res": 1}]
    assert server.api.has_account("a", "example.org") is False
    login = {"user": "admin", "server": "example.org", "password": "admin's secret", "admin": True}
    assert server.asked == [((login, {"user": "a", "host": "example.org"}), "check_account")]


def test_a_group_is_read(server):
    server.answers = [
        {"informations": [{"key": "label", "value": "L"}, {"key": "all_users", "value": "true"}]},
        {"members": ["b@example.org", "a@example.org"]},
    ]
    assert server.api.group("g", "example.org") == Group(
        "L", "", (), ("a@example.org", "b@example.org"), ("all_users",)
    )


def test_a_group_is_written_in_the_form_that_the_server_takes(server):
    server.answers = [xmlrpc.client.Fault(-122, "Error -122\nParameter ... can't be coerced"), {"res": 0}]
    server.api.write_group("g", "example.org", Group("L", "D", ("a", "b"), ()))
    assert [arguments[1]["display"] for arguments, dummy in server.asked] == ["a\\nb", ["a", "b"]]


PROBLEM = (
    "Error -118\nA problem '%s' occurred executing the command register with arguments\n[{password,<<\"secret\">>}]"
)


@pytest.mark.parametrize(
    ("answer", "kind", "message"),
    [
        (xmlrpc.client.Fault(-118, "Error -118\nInvalid authentication data"), AuthenticationFailed, "refused jid and"),
        (
            xmlrpc.client.Fault(-118, PROBLEM % "{error,access_rules_unauthorized}"),
            PermissionDenied,
            "does not permit register to admin@example.org",
        ),
        (
            xmlrpc.client.Fault(-118, PROBLEM % '{error,"Can\'t register user\n       a: Malformed username"}'),
            CommandFailed,
            "refused register: Can't register user a: Malformed username",
        ),
        (xmlrpc.client.Fault(-118, PROBLEM % "invalid_password"), CommandFailed, "refused register: invalid_password"),
        (
            xmlrpc.client.Fault(-122, "Parameter '<<\"secret\">>'"),
            ArgumentsRefused,
            "refused the arguments of register",
        ),
        (xmlrpc.client.Fault(-1, '[{password,<<"secret">>}]'), CommandFailed, "refused register: fault -1"),
        (b"<html>secret</html>", CommandFailed, "does not answer as one (HTTP 200); check api_port"),
        (b"secret", CommandFailed, "does not answer as one"),
        ({"res": 1}, CommandFailed, "refused register without a reason"),
        (None, NoAnswer, "closed the connection instead of an answer to register"),
    ],
)
def test_errors_of_xml_rpc_show_no_password(server, answer, kind, message):
    server.answers = [answer]
    with pytest.raises(kind) as raised:
        server.api.register("a", "example.org", "secret")
    assert message in raised.value.message
    assert "secret" not in raised.value.message
    assert "\n" not in raised.value.message


@pytest.mark.parametrize("api", ["https", "xmlrpc"])
def test_nobody_listens(api):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(
        ServerUnreachable, match=f"127.0.0.1:{port} cannot be reached: Connection refused; check server"
    ):
        Api(ADMIN._replace(server="127.0.0.1"), api, port).domains()


def test_a_listener_without_tls(server):
    with pytest.raises(ServerUnreachable, match="cannot be reached"):
        Api(ADMIN._replace(server="127.0.0.1"), "https", server.http.server_port).domains()


def test_a_jid_without_a_localpart_is_refused():
    with pytest.raises(InvalidSpec, match="jid: 'example.org' is not of the form user@domain"):
        Api(ADMIN._replace(jid="example.org"), "https", None)
