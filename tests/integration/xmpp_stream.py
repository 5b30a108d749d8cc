# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""A bare XMPP stream on the standard library, for probes that no XMPP library would send.

Sources: RFC 6120 (streams, STARTTLS, SASL, binding), RFC 5802 (SCRAM), XEP-0077.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import itertools
import re
import secrets
import socket
import ssl
from xml.etree import ElementTree as ET
from xml.sax.saxutils import quoteattr

STREAM = "{http://etherx.jabber.org/streams}"
TLS = "urn:ietf:params:xml:ns:xmpp-tls"
SASL = "urn:ietf:params:xml:ns:xmpp-sasl"
STANZAS = "{urn:ietf:params:xml:ns:xmpp-stanzas}"
CLIENT = "{jabber:client}"
REMOVE = "<query xmlns='jabber:iq:register'><remove/></query>"


class Refused(Exception):
    """The server said no: SASL failed, or a stanza came back with this error condition."""


class Stream:
    """One connection with STARTTLS done. Without login() it is a stream that nobody has authenticated.

    `context` is for a TLS other than that of somebody who trusts `ca_file`; `namespace` jabber:server, for one server
    that speaks to another.
    """

    def __init__(
        self,
        address: tuple[str, int],
        domain: str,
        ca_file: str,
        timeout: float = 10,
        context: ssl.SSLContext | None = None,
        namespace: str = "jabber:client",
    ) -> None:
        self.domain = domain
        self._namespace = namespace
        self._ids = itertools.count(1)
        self._socket: socket.socket = socket.create_connection(address, timeout)
        features = self._open()
        self.offers_starttls_only = [child.tag for child in features] == [f"{{{TLS}}}starttls"]
        self._write(f"<starttls xmlns='{TLS}'/>")
        self.read()
        context = context or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(ca_file)
        try:
            self._socket = context.wrap_socket(self._socket, server_hostname=domain)
        except OSError:
            self._socket.close()
            raise
        self.features = self._open()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *exception: object) -> None:
        self._socket.close()

    def mechanisms(self) -> set[str | None]:
        return {mechanism.text for mechanism in self.features.iter(f"{{{SASL}}}mechanism")}

    def login(self, user: str, password: str, resource: str = "probe") -> Stream:
        """SCRAM-SHA-1 and a bound resource. Raises Refused."""
        first = f"n={user},r={secrets.token_hex(12)}"
        challenge = self._sasl(
            "<auth xmlns='{}' mechanism='SCRAM-SHA-1'>{}</auth>".format(SASL, _encode("n,," + first))
        )
        values = dict(part.split("=", 1) for part in challenge.split(","))
        final = "c=biws,r={}".format(values["r"])
        salted = hashlib.pbkdf2_hmac("sha1", password.encode(), base64.b64decode(values["s"]), int(values["i"]))
        key = hmac.digest(salted, b"Client Key", "sha1")
        message = ",".join((first, challenge, final)).encode()
        signature = hmac.digest(hashlib.sha1(key).digest(), message, "sha1")
        proof = base64.b64encode(bytes(a ^ b for a, b in zip(key, signature))).decode()
        self._sasl("<response xmlns='{}'>{}</response>".format(SASL, _encode(f"{final},p={proof}")))
        self._open()
        bind = f"<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>{resource}</resource></bind>"
        self.ask("set", bind)
        return self

    def ask(self, kind: str, payload: str, to: str | None = None) -> ET.Element:
        """Sends an <iq/> and returns its answer. Raises Refused with the error's condition."""
        number = f"p{next(self._ids)}"
        target = f" to={quoteattr(to)}" if to else ""
        self._write(f"<iq type='{kind}' id='{number}'{target}>{payload}</iq>")
        passed: list[ET.Element] = []
        while True:
            stanza = self.read()
            if stanza.tag == CLIENT + "iq" and stanza.get("id") == number:
                break
            passed.append(stanza)
        # What came meanwhile is for whoever reads next.
        self._children[:0] = passed
        if stanza.get("type") == "error":
            raise Refused(_condition(stanza))
        return stanza

    def register(self, user: str, password: str) -> ET.Element:
        """XEP-0077: a new account, or a new password for the stream's own."""
        payload = f"<username>{user}</username><password>{password}</password>"
        return self.ask("set", f"<query xmlns='jabber:iq:register'>{payload}</query>", self.domain)

    def remove_account(self) -> None:
        """XEP-0077, the stream's own account. The server may end the stream before its answer arrives."""
        with contextlib.suppress(ConnectionError):
            self.ask("set", REMOVE, self.domain)

    def timeout(self, seconds: float | None) -> float | None:
        """Sets for how long read() waits; what it was before."""
        before = self._socket.gettimeout()
        self._socket.settimeout(seconds)
        return before

    def write(self, text: str) -> None:
        self._write(text)

    def patience(self, seconds: float) -> None:
        """How long read() waits."""
        self._socket.settimeout(seconds)

    def read(self) -> ET.Element:
        """The next child of the stream. Raises ConnectionError at its end, TimeoutError."""
        while not self._children:
            data = self._socket.recv(65536)
            if not data:
                raise ConnectionError("the stream ended")
            self._feed(data)
        return self._children.pop(0)

    def _open(self) -> ET.Element:
        self._parser = ET.XMLPullParser(("start", "end"))
        self._depth = 0
        self._children: list[ET.Element] = []
        self._write(
            f"<stream:stream xmlns='{self._namespace}' xmlns:stream='http://etherx.jabber.org/streams'"
            f" version='1.0' to='{self.domain}'>"
        )
        return self.read()

    def _feed(self, data: bytes) -> None:
        self._parser.feed(data)
        for event, element in self._parser.read_events():
            self._depth += 1 if event == "start" else -1
            if event == "end" and self._depth == 1:
                self._children.append(element)

    def _sasl(self, text: str) -> str:
        self._write(text)
        answer = self.read()
        if answer.tag == f"{{{SASL}}}failure":
            raise Refused(re.sub("{.*}", "", answer[0].tag))
        return base64.b64decode(answer.text or "").decode()

    def _write(self, text: str) -> None:
        self._socket.sendall(text.encode())


def _encode(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _condition(stanza: ET.Element) -> str:
    error = stanza.find(CLIENT + "error")
    conditions = [] if error is None else [child.tag for child in error if child.tag.startswith(STANZAS)]
    return conditions[0].removeprefix(STANZAS) if conditions else "undefined-condition"
