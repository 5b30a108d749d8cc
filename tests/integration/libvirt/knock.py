# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Show a certificate to libvirtd; say whether it lets its owner in.

Usage: knock.py SERVER CERTIFICATE KEY. libvirtd ends its check of the certificate with one byte, 1 for welcome, or
hangs up. libvirt's own client would refuse to show a certificate that the server won't like, OpenSSL's shows any.
"""

import socket
import ssl
import sys

server, certificate, key = sys.argv[1:]
context = ssl.create_default_context(cafile="/etc/pki/CA/cacert.pem")
context.load_cert_chain(certificate, key)
try:
    with socket.create_connection((server, 16514), timeout=10) as plain:
        with context.wrap_socket(plain, server_hostname=server) as connection:
            print("welcome" if connection.recv(1) == b"\x01" else "refused")
except ssl.SSLCertVerificationError:
    raise  # about the server's certificate, not ours
except (ssl.SSLError, ConnectionError):
    print("refused")
