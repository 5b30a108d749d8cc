# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The agent's configuration: what is good, and what each mistake is told to be."""

from __future__ import annotations

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from archipel_agent import config


@pytest.fixture(scope="session")
def certificate():
    """Somebody's, in PEM."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.timezone.utc)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "an authority")])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM)


@pytest.fixture
def files(tmp_path, certificate):
    """The paths that a configuration names."""
    (tmp_path / "ca.pem").write_bytes(certificate)
    (tmp_path / "password").write_text("secret\n")
    return tmp_path


@pytest.fixture
def write(files):
    """Writes a configuration, with lines of a section replaced or added, and returns its path."""

    def write(more=None, without=""):
        sections = {
            "GLOBAL": {"xmpp_host": "xmpp.example.org", "xmpp_ca_file": str(files / "ca.pem")},
            "HYPERVISOR": {
                "hypervisor_xmpp_jid": "hv1@example.org",
                "hypervisor_xmpp_password_file": str(files / "password"),
            },
        }
        for section, options in (more or {}).items():
            sections.setdefault(section, {}).update(options)
        lines = []
        for section, options in sections.items():
            lines.append(f"[{section}]")
            lines += [f"{name} = {value}" for name, value in options.items() if name != without]
        path = files / "archipel.conf"
        path.write_text("\n".join(lines) + "\n")
        return path

    return write


def test_defaults(write):
    found = config.load(write())
    assert (found.node, found.domain, found.xmpp_port) == ("hv1", "example.org", 5222)
    assert found.libvirt_uri == "qemu:///system"
    assert found.archipel_root_admins == frozenset()
    assert found.read_password() == "secret"


def test_admins_grants_and_peers(write):
    found = config.load(
        write(
            {
                "GLOBAL": {"archipel_root_admins": "admin@example.org boss@example.org"},
                "GRANTS": {"ops@example.org": "info create host_access"},
                "PEERS": {
                    "hv1@example.org": "qemu+tls://hv1/system",
                    "hv2@example.org": "qemu+tls://hv2.example.org/system",
                },
            }
        )
    )
    assert found.archipel_root_admins == {"admin@example.org", "boss@example.org"}
    assert found.grants == {"ops@example.org": {"info", "create", "host_access"}}
    # A hypervisor is no peer of its own.
    assert found.peers == {"hv2": config.Peer("hv2@example.org", "hv2", "qemu+tls://hv2.example.org/system")}
    assert found.peer_jids == {"hv2@example.org"}


@pytest.mark.parametrize(
    "more, without, told",
    [
        ({}, "xmpp_host", "[GLOBAL] xmpp_host is missing"),
        ({"GLOBAL": {"xmpp_host": ""}}, "", "[GLOBAL] xmpp_host = '': must be the host name or address"),
        ({"GLOBAL": {"xmpp_port": "http"}}, "", "[GLOBAL] xmpp_port = 'http': must be a number from 1 to 65535"),
        ({"GLOBAL": {"xmpp_port": "65536"}}, "", "must be a number from 1 to 65535"),
        ({"GLOBAL": {"xmpp_ca_file": "/nowhere.pem"}}, "", "must be the path of a file that exists"),
        ({"GLOBAL": {"libvirt_timeout": "0"}}, "", "must be a number of seconds from 1 to 3600"),
        ({"GLOBAL": {"xmpp_hots": "x"}}, "", "[GLOBAL] xmpp_hots is unknown; there are xmpp_host, xmpp_port"),
        ({"GLOBAL": {"archipel_root_admins": "admin"}}, "", "must be a bare JID in lower case"),
        ({"GLOBAL": {"archipel_root_admins": "admin@example.org/home"}}, "", "must be a bare JID in lower case"),
        ({"GLOBAL": {"archipel_folder_lib": "lib"}}, "", "must be an absolute path"),
        ({"HYPERVISOR": {"hypervisor_xmpp_jid": "HV1@example.org"}}, "", "must be a bare JID in lower case"),
        (
            {"HYPERVISOR": {"hypervisor_xmpp_jid": "11111111-2222-4333-8444-555555555555@example.org"}},
            "",
            "must be <host name>@<domain>",
        ),
        ({"LOGGING": {"logging_level": "loud"}}, "", "must be one of debug, info, warning, error"),
        ({"LOGIN": {"x": "y"}}, "", "section [LOGIN] is unknown; there are GLOBAL, HYPERVISOR, VIRTUALMACHINE, VCARD,"),
        ({"GRANTS": {"ops@example.org": "fly"}}, "", "must be permissions; fly is none of"),
        ({"GRANTS": {"ops@example.org": "peer"}}, "", "must be permissions; peer is none of"),
        ({"GRANTS": {"*": "all"}}, "", "must be a bare JID in lower case, like admin@example.org, on the left"),
        ({"PEERS": {"hv2@elsewhere.org": "qemu+tls://hv2/system"}}, "", "must be a hypervisor of example.org"),
        ({"PEERS": {"hv2@example.org": "qemu:///system"}}, "", "must be a libvirt URI with transport and host"),
    ],
)
def test_a_mistake_is_told(write, more, without, told):
    path = write(more, without)
    with pytest.raises(config.ConfigError) as raised:
        config.load(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert told in str(raised.value)


@pytest.mark.parametrize(
    "text, told",
    [
        ("xmpp_host = a\n", "File contains no section headers"),
        ("[GLOBAL]\nxmpp_host = a\nxmpp_host = b\n", "already exists"),
        ("[GLOBAL]\nxmpp_host\n", "parsing errors"),
    ],
)
def test_what_is_no_configuration_is_told(files, text, told):
    path = files / "archipel.conf"
    path.write_text(text)
    with pytest.raises(config.ConfigError, match=told):
        config.load(path)


def test_a_missing_file_is_told(files):
    with pytest.raises(config.ConfigError, match="cannot be read"):
        config.load(files / "nothing.conf")


def test_a_file_without_certificates_is_told(write, files):
    (files / "ca.pem").write_text("no certificate")
    with pytest.raises(
        config.ConfigError, match=r"\[GLOBAL\] xmpp_ca_file = .*: must be a file of certificates \(PEM\)"
    ):
        config.load(write())


def test_an_empty_password_is_told(write, files):
    found = config.load(write())
    (files / "password").write_text("\n")
    with pytest.raises(config.ConfigError, match="is empty"):
        found.read_password()


def test_the_template_documents_every_option():
    from pathlib import Path

    template = Path(__file__).resolve().parents[3] / "roles/archipel_agent/templates/archipel.conf.j2"
    lines = template.read_text().splitlines()
    written = [line.partition(" = ")[0] for line in lines if " = " in line and line[0].isalpha()]
    assert written == [name for dummy, name, *dummy2 in config._OPTIONS]
    for name in written:
        position = next(index for index, line in enumerate(lines) if line.startswith(name + " = "))
        assert lines[position - 1].startswith("# "), f"{name} has no comment"
