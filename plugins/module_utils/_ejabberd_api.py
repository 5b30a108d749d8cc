# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Accounts and shared roster groups through ejabberd's API, whose forms differ between 23.01 and 24.12.

The commands are mod_admin_extra's: https://docs.ejabberd.im/developer/ejabberd-api/admin-api/
Private to this collection; it may change without notice.
"""

from __future__ import annotations

import base64
import http.client
import json
import re
import socket
import ssl
import typing as t
import xmlrpc.client
from xml.parsers.expat import ExpatError

from ._connection import Options
from ._errors import AuthenticationFailed, CertificateRefused, InvalidSpec, NoAnswer, ServerUnreachable
from ._xmpp import tls_context
from .archipel_protocol import jids
from .archipel_protocol.errors import ArchipelError, PermissionDenied

PORTS = {"https": 5443, "xmlrpc": 4560}

# A fault's text goes on with the arguments of the call, and these may be a password: only what ejabberd says is taken.
_FAULT = re.compile(r"A problem '(.*)' occurred executing the command \w+ with arguments", re.DOTALL)
_REASON = re.compile(r'\{\w+,"(.*)"\}', re.DOTALL)
_FAULT_ARGUMENTS = -122


class CommandFailed(ArchipelError):
    """ejabberd did not do what a command asked for."""


class ArgumentsRefused(CommandFailed):
    """The command takes its arguments in another form in this version of ejabberd."""


class Group(t.NamedTuple):
    """A shared roster group. ``displayed``: the groups that its members see; ``members``: bare JIDs, both sorted.

    ``others``: options that the API shows and cannot set in every version, such as all_users.
    """

    label: str
    description: str
    displayed: tuple[str, ...]
    members: tuple[str, ...]
    others: tuple[str, ...] = ()


class _Connection(http.client.HTTPConnection):
    """One HTTP connection to an address; with TLS, whoever answers must prove to be ``host``."""

    def __init__(self, host: str, address: str, port: int, timeout: float, tls: ssl.SSLContext | None) -> None:
        super().__init__(host, port, timeout=timeout)
        self._address = address
        self._tls = tls

    def connect(self) -> None:
        self.sock = socket.create_connection((self._address, self.port), self.timeout)
        if self._tls is not None:
            self.sock = self._tls.wrap_socket(self.sock, server_hostname=self.host)


class _Transport:
    """Requests on one connection, its troubles told as errors of ours."""

    def __init__(self, options: Options, address: str, port: int, tls: ssl.SSLContext | None) -> None:
        self.domain = jids.domain(options.jid)
        self.where = f"ejabberd's API at {address}:{port}"
        self._timeout = options.timeout
        self._connection = _Connection(self.domain, address, port, options.timeout, tls)

    def post(self, command: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        """Status and body of the answer."""
        self._connect()
        try:
            self._connection.request("POST", path, body, headers)
            response = self._connection.getresponse()
            return response.status, response.read()
        except socket.timeout:
            raise NoAnswer(f"{self.where} gave no answer to {command} within {self._timeout:g} s") from None
        except (OSError, http.client.HTTPException):
            # ejabberd's XML-RPC closes the connection where the HTTP API would say 404 or 500.
            raise NoAnswer(
                f"{self.where} closed the connection instead of an answer to {command}; "
                "check that mod_admin_extra is loaded, and see ejabberd's log"
            ) from None
        finally:
            self._connection.close()

    def _connect(self) -> None:
        try:
            self._connection.connect()
        except ssl.SSLCertVerificationError as exc:
            raise CertificateRefused(
                f"the certificate of {self.where} is refused: {exc.verify_message.rstrip('.')}; it must name "
                f"the domain of jid, {self.domain}, and ca_file must hold the authority that signed it"
            ) from None
        except OSError as exc:
            raise ServerUnreachable(
                f"{self.where} cannot be reached: {exc.strerror or exc}; check server and api_port"
            ) from None


class Https:
    """mod_http_api (https://docs.ejabberd.im/developer/ejabberd-api/simple-api/), logged in by HTTP Basic."""

    def __init__(self, options: Options, port: int) -> None:
        self._options = options
        server = options.server or jids.domain(options.jid)
        self._transport = _Transport(options, server, port, tls_context(options.ca_file))
        self.where = self._transport.where

    def call(self, command: str, arguments: t.Mapping[str, t.Any]) -> t.Any:
        """The command's result as JSON has it."""
        login = f"{jids.bare(self._options.jid)}:{self._options.password}".encode()
        headers = {
            "Authorization": "Basic " + base64.b64encode(login).decode(),
            "Content-Type": "application/json",
        }
        status, body = self._transport.post(command, f"/api/{command}", json.dumps(arguments).encode(), headers)
        try:
            answer = json.loads(body)
        except ValueError:
            raise CommandFailed(f"{self.where} does not answer as one (HTTP {status}); check api_port") from None
        if status == 200:
            return answer
        text = answer.get("message", "") if isinstance(answer, dict) else str(answer)
        raise self._error(command, status, text)

    def _error(self, command: str, status: int, text: str) -> ArchipelError:
        if status == 401:
            return _login_refused(self.where, self._options.jid)
        if status == 403:
            return _not_permitted(self.where, self._options.jid, command)
        if status == 404 and text.startswith("Endpoint"):
            return CommandFailed(f"{self.where} has no command {command}; check that mod_admin_extra is loaded")
        kind = ArgumentsRefused if status == 400 and "is not in format" in text else CommandFailed
        return kind(f"{self.where} refused {command}: {text or f'HTTP {status}'}")


class Xmlrpc:
    """ejabberd_xmlrpc on the loopback address of this host, its listener's only address: it knows no TLS."""

    def __init__(self, options: Options, port: int) -> None:
        self._options = options
        self._transport = _Transport(options, "127.0.0.1", port, None)
        self.where = self._transport.where

    def call(self, command: str, arguments: t.Mapping[str, t.Any]) -> t.Any:
        """The command's result as XML-RPC has it: a dict of one or more values."""
        login = {
            "user": jids.node(self._options.jid),
            "server": jids.domain(self._options.jid),
            "password": self._options.password,
            "admin": True,
        }
        body = xmlrpc.client.dumps((login, dict(arguments)), command).encode()
        status, answer = self._transport.post(command, "/RPC2", body, {"Content-Type": "text/xml"})
        try:
            return xmlrpc.client.loads(answer)[0][0]
        except xmlrpc.client.Fault as exc:
            raise self._error(command, exc) from None
        except (xmlrpc.client.Error, ExpatError, ValueError, IndexError):
            raise CommandFailed(f"{self.where} does not answer as one (HTTP {status}); check api_port") from None

    def _error(self, command: str, fault: xmlrpc.client.Fault) -> ArchipelError:
        if fault.faultCode == _FAULT_ARGUMENTS:
            return ArgumentsRefused(f"{self.where} refused the arguments of {command}")
        if "Invalid authentication data" in fault.faultString:
            return _login_refused(self.where, self._options.jid)
        found = _FAULT.search(fault.faultString)
        text = found.group(1) if found else f"fault {fault.faultCode}"
        if "access_rules_unauthorized" in text:
            return _not_permitted(self.where, self._options.jid, command)
        reason = _REASON.fullmatch(text)
        # Erlang may break a long term into lines.
        told = " ".join((reason.group(1) if reason else text).split())
        return CommandFailed(f"{self.where} refused {command}: {told}")


def _login_refused(where: str, jid: str) -> ArchipelError:
    return AuthenticationFailed(f"{where} refused jid and password of {jids.bare(jid)}")


def _not_permitted(where: str, jid: str, command: str) -> ArchipelError:
    return PermissionDenied(f"{where} does not permit {command} to {jids.bare(jid)}; check its api_permissions")


def elements(answer: t.Any) -> list[t.Any]:
    """A list in any of its forms: ``["a"]``, ``{"users": ["a"]}``, ``{"users": [{"username": "a"}]}``."""
    listed = next(iter(answer.values())) if isinstance(answer, dict) else answer
    return [
        next(iter(element.values())) if isinstance(element, dict) and len(element) == 1 else element
        for element in listed
    ]


def pairs(answer: t.Any) -> dict[str, str]:
    """srg_get_info's options: ``[{"key": k, "value": v}]``, or each as a list ``[{"key": k}, {"value": v}]``."""
    found = {}
    for element in elements(answer):
        pair = element if isinstance(element, dict) else {k: v for part in element for k, v in part.items()}
        # XML-RPC shows an empty text so.
        found[pair["key"]] = "" if pair["value"] == "[]" else pair["value"]
    return found


def displayed_groups(text: str) -> tuple[str, ...]:
    """An option's list: lines over HTTP, an Erlang term over XML-RPC; 24.12 puts ", " between, as if elements."""
    if text.startswith("["):
        # What is not Latin-1 is there as the list of its bytes.
        names = [name if isinstance(name, str) else bytes(name).decode() for name in json.loads(text)]
    else:
        names = text.split("\n")
    return tuple(sorted(name for name in names if name not in ("", ", ")))


def result_code(answer: t.Any) -> int:
    """0 for success: ``0``, ``{"res": 0}``, or only a text, that there would not be without success."""
    if isinstance(answer, dict):
        return int(answer.get("res", 0))
    return answer if isinstance(answer, int) else 0


class Api:
    """What this collection asks of ejabberd. Every method may raise an ArchipelError."""

    def __init__(self, options: Options, api: str, port: int | None) -> None:
        if not jids.node(options.jid) or not jids.domain(options.jid):
            raise InvalidSpec([f"jid: '{options.jid}' is not of the form user@domain"])
        self._way = {"https": Https, "xmlrpc": Xmlrpc}[api](options, port or PORTS[api])

    def _code(self, command: str, **arguments: t.Any) -> int:
        return result_code(self._way.call(command, arguments))

    def _do(self, command: str, **arguments: t.Any) -> None:
        if self._code(command, **arguments):
            raise CommandFailed(f"{self._way.where} refused {command} without a reason; see ejabberd's log")

    def domains(self) -> list[str]:
        """The virtual hosts that the server serves."""
        return elements(self._way.call("registered_vhosts", {}))

    def has_account(self, user: str, host: str) -> bool:
        return self._code("check_account", user=user, host=host) == 0

    def password_is(self, user: str, host: str, password: str) -> bool:
        return self._code("check_password", user=user, host=host, password=password) == 0

    def register(self, user: str, host: str, password: str) -> None:
        self._do("register", user=user, host=host, password=password)

    def unregister(self, user: str, host: str) -> None:
        self._do("unregister", user=user, host=host)

    def change_password(self, user: str, host: str, password: str) -> None:
        self._do("change_password", user=user, host=host, newpass=password)

    def groups(self, host: str) -> list[str]:
        """The names of the shared roster groups of a virtual host."""
        return elements(self._way.call("srg_list", {"host": host}))

    def members(self, group: str, host: str) -> list[str]:
        """The bare JIDs of a group's explicit members."""
        return sorted(elements(self._way.call("srg_get_members", {"group": group, "host": host})))

    def group(self, group: str, host: str) -> Group:
        """A group that there is: for another name ejabberd answers as for an empty one."""
        options = pairs(self._way.call("srg_get_info", {"group": group, "host": host}))
        return Group(
            options.pop("label", ""),
            options.pop("description", ""),
            displayed_groups(options.pop("displayed_groups", "")),
            tuple(self.members(group, host)),
            tuple(sorted(options)),
        )

    def write_group(self, group: str, host: str, wanted: Group) -> None:
        """Makes the group, or replaces its options; its members stay.

        23.01 takes ``display`` as one text; of a list it makes one wrong name, without a word. 24.12 refuses the text
        before it does anything, and takes the list.
        """
        options = {"group": group, "host": host, "label": wanted.label, "description": wanted.description}
        try:
            self._do("srg_create", **options, display="\\n".join(wanted.displayed))
        except ArgumentsRefused:
            self._do("srg_create", **options, display=list(wanted.displayed))

    def delete_group(self, group: str, host: str) -> None:
        self._do("srg_delete", group=group, host=host)

    def join(self, jid: str, group: str, host: str) -> None:
        """Makes a bare JID a member."""
        self._do("srg_user_add", user=jids.node(jid), host=jids.domain(jid), group=group, grouphost=host)

    def leave(self, jid: str, group: str, host: str) -> None:
        """Ends a bare JID's membership."""
        self._do("srg_user_del", user=jids.node(jid), host=jids.domain(jid), group=group, grouphost=host)
