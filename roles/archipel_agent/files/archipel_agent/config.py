# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""/etc/archipel/archipel.conf: read, checked as a whole at the start, and typed.

Whatever is wrong is said with file, section, option, value and what would be right.
"""

from __future__ import annotations

import configparser
import dataclasses
import pathlib
import re
import ssl
import typing as t

from archipel_protocol import jids

from .permissions import NAMES

DEFAULT_PATH = "/etc/archipel/archipel.conf"

_LEVELS = ("debug", "info", "warning", "error")
# A driver, optionally a transport, and the host: what libvirt of another host is reached by.
_REMOTE_URI = re.compile(r"[a-z]+\+[a-z0-9]+://[^/\s@]+/\S*\Z")


class ConfigError(Exception):
    """The configuration cannot be used; the text tells a person what to change."""


@dataclasses.dataclass(frozen=True)
class Peer:
    """Another hypervisor: bare JID, its node, and the URI under which this host's libvirt reaches its libvirt."""

    jid: str
    node: str
    uri: str


@dataclasses.dataclass(frozen=True)
class Config:
    """Every option, in the units that its comment in the role's template gives; ``path`` is where they were read."""

    path: str
    xmpp_host: str
    xmpp_port: int
    xmpp_ca_file: pathlib.Path
    libvirt_uri: str
    libvirt_timeout: float
    archipel_root_admins: frozenset[str]
    archipel_folder_lib: pathlib.Path
    hypervisor_xmpp_jid: str
    hypervisor_xmpp_password_file: pathlib.Path
    machine_avatar_directory: pathlib.Path
    hypervisor_default_avatar: str
    vm_default_avatar: str
    orgname: str
    orgunit: str
    locality: str
    userid: str
    categories: str
    logging_level: str
    logging_file_path: pathlib.Path | None
    grants: t.Mapping[str, frozenset[str]]
    peers: t.Mapping[str, Peer]  # by node

    @property
    def node(self) -> str:
        """The localpart of the hypervisor's JID, which is also its resource."""
        return jids.node(self.hypervisor_xmpp_jid)

    @property
    def domain(self) -> str:
        """The XMPP domain."""
        return jids.domain(self.hypervisor_xmpp_jid)

    @property
    def peer_jids(self) -> frozenset[str]:
        """The bare JIDs of the peers."""
        return frozenset(peer.jid for peer in self.peers.values())

    def read_password(self) -> str:
        """The password of the hypervisor's account; raises ConfigError."""
        path = self.hypervisor_xmpp_password_file
        try:
            password = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as exc:
            raise ConfigError(f"hypervisor_xmpp_password_file {path} cannot be read: {exc}") from None
        if not password:
            raise ConfigError(f"hypervisor_xmpp_password_file {path} is empty")
        return password


# Converters: text to value; they raise ValueError saying what would be right.


def _text(value: str) -> str:
    return value


def _port(value: str) -> int:
    if not value.isdigit() or not 0 < int(value) < 65536:
        raise ValueError("a number from 1 to 65535")
    return int(value)


def _seconds(value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if not 1 <= seconds <= 3600:
        raise ValueError("a number of seconds from 1 to 3600")
    return seconds


def _path(value: str) -> pathlib.Path:
    if not value.startswith("/"):
        raise ValueError("an absolute path")
    return pathlib.Path(value)


def _file(value: str) -> pathlib.Path:
    path = _path(value)
    if not path.is_file():
        raise ValueError("the path of a file that exists")
    return path


def _authorities(value: str) -> pathlib.Path:
    path = _file(value)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except OSError as exc:
        raise ValueError(f"a file of certificates (PEM) that can be read; {exc}") from None
    return path


def _optional_path(value: str) -> pathlib.Path | None:
    return _path(value) if value else None


def _level(value: str) -> str:
    if value not in _LEVELS:
        raise ValueError("one of " + ", ".join(_LEVELS))
    return value


def _bare_jid(value: str) -> str:
    if not jids.is_account(value):
        raise ValueError("a bare JID in lower case, like admin@example.org")
    return value


def _bare_jids(value: str) -> frozenset[str]:
    return frozenset(_bare_jid(one) for one in value.split())


def _hypervisor_jid(value: str) -> str:
    if not jids.is_hypervisor_node(jids.node(_bare_jid(value))):
        raise ValueError("<host name>@<domain>, in lower case")
    return value


# Section, option, converter, default; None: must be given.
_OPTIONS: tuple[tuple[str, str, t.Callable[[str], t.Any], str | None], ...] = (
    ("GLOBAL", "xmpp_host", _text, None),
    ("GLOBAL", "xmpp_port", _port, "5222"),
    ("GLOBAL", "xmpp_ca_file", _authorities, None),
    ("GLOBAL", "libvirt_uri", _text, "qemu:///system"),
    ("GLOBAL", "libvirt_timeout", _seconds, "30"),
    ("GLOBAL", "archipel_root_admins", _bare_jids, ""),
    ("GLOBAL", "archipel_folder_lib", _path, "/var/lib/archipel"),
    ("GLOBAL", "machine_avatar_directory", _path, "/var/lib/archipel/avatars"),
    ("HYPERVISOR", "hypervisor_xmpp_jid", _hypervisor_jid, None),
    ("HYPERVISOR", "hypervisor_xmpp_password_file", _file, None),
    ("HYPERVISOR", "hypervisor_default_avatar", _text, ""),
    ("VIRTUALMACHINE", "vm_default_avatar", _text, ""),
    ("VCARD", "orgname", _text, ""),
    ("VCARD", "orgunit", _text, ""),
    ("VCARD", "locality", _text, ""),
    ("VCARD", "userid", _text, ""),
    ("VCARD", "categories", _text, ""),
    ("LOGGING", "logging_level", _level, "info"),
    ("LOGGING", "logging_file_path", _optional_path, "/var/log/archipel/archipel.log"),
)
# Sections whose options are names that the administrator chooses.
_GRANTS = "GRANTS"
_PEERS = "PEERS"


class _Parser(configparser.RawConfigParser):
    """No interpolation, no defaults, names as written."""

    def __init__(self) -> None:
        super().__init__(delimiters=("=",), comment_prefixes=("#",), default_section="", empty_lines_in_values=False)

    def optionxform(self, optionstr: str) -> str:
        return optionstr


def load(path: str | pathlib.Path) -> Config:
    """The configuration in ``path``; raises ConfigError."""
    parser = _Parser()
    try:
        with open(path, encoding="utf-8") as file:
            parser.read_file(file, str(path))
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{path} cannot be read: {exc}") from None
    except configparser.Error as exc:
        raise ConfigError(" ".join(str(exc).split())) from None
    return _Reader(str(path), parser).config()


class _Reader:
    """From the parsed file to a Config."""

    def __init__(self, path: str, parser: configparser.RawConfigParser) -> None:
        self._path = path
        self._parser = parser

    def config(self) -> Config:
        """The whole of it; raises ConfigError."""
        self._refuse_unknown()
        values = {name: self._value(section, name, convert, default) for section, name, convert, default in _OPTIONS}
        if not values["xmpp_host"]:
            raise self._wrong("GLOBAL", "xmpp_host", "", "the host name or address of the XMPP server")
        grants = {jid: self._grant(jid, value) for jid, value in self._items(_GRANTS)}
        domain = jids.domain(values["hypervisor_xmpp_jid"])
        peers = [self._peer(jid, value, domain) for jid, value in self._items(_PEERS)]
        own = values["hypervisor_xmpp_jid"]
        others = {peer.node: peer for peer in peers if peer.jid != own}
        return Config(path=self._path, grants=grants, peers=others, **values)

    def _items(self, section: str) -> list[tuple[str, str]]:
        return self._parser.items(section) if self._parser.has_section(section) else []

    def _refuse_unknown(self) -> None:
        known: dict[str, list[str]] = {}
        for section, name, *dummy in _OPTIONS:
            known.setdefault(section, []).append(name)
        sections = [*known, _GRANTS, _PEERS]
        for section in self._parser.sections():
            if section not in sections:
                raise ConfigError(f"{self._path}: section [{section}] is unknown; there are {', '.join(sections)}")
            for option in self._parser.options(section) if section in known else ():
                if option not in known[section]:
                    raise ConfigError(
                        f"{self._path}: [{section}] {option} is unknown; there are {', '.join(known[section])}"
                    )

    def _value(self, section: str, option: str, convert: t.Callable[[str], t.Any], default: str | None) -> t.Any:
        text = self._parser.get(section, option, fallback=default)
        if text is None:
            raise ConfigError(f"{self._path}: [{section}] {option} is missing")
        try:
            return convert(text)
        except ValueError as exc:
            raise self._wrong(section, option, text, str(exc)) from None

    def _grant(self, jid: str, value: str) -> frozenset[str]:
        try:
            _bare_jid(jid)
        except ValueError as exc:
            raise self._wrong(_GRANTS, jid, value, f"{exc}, on the left") from None
        granted = frozenset(value.split())
        unknown = sorted(granted - NAMES)
        if unknown:
            raise self._wrong(_GRANTS, jid, value, f"permissions; {unknown[0]} is none of {', '.join(sorted(NAMES))}")
        return granted

    def _peer(self, jid: str, uri: str, domain: str) -> Peer:
        try:
            _hypervisor_jid(jid)
        except ValueError as exc:
            raise self._wrong(_PEERS, jid, uri, f"{exc}, on the left") from None
        if jids.domain(jid) != domain:
            raise self._wrong(_PEERS, jid, uri, f"a hypervisor of {domain} on the left")
        if not _REMOTE_URI.match(uri):
            raise self._wrong(_PEERS, jid, uri, "a libvirt URI with transport and host, like qemu+tls://hv2/system")
        return Peer(jid, jids.node(jid), uri)

    def _wrong(self, section: str, option: str, value: str, right: str) -> ConfigError:
        return ConfigError(f"{self._path}: [{section}] {option} = {value!r}: must be {right}")
