# Copyright (c) 2026, Archipel maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of the connection options; plugins/module_utils/_connection.py has their argument spec."""

from __future__ import annotations


class ModuleDocFragment:
    """Extend with C(archipel.platform.connection), a plugin with C(archipel.platform.connection.plugins) too."""

    DOCUMENTATION = r"""
options:
  jid:
    description:
      - The account to log in as, C(user@domain). The domain is the platform's XMPP domain.
      - If not set, the environment variable E(ARCHIPEL_JID) is used.
    type: str
    required: true
  password:
    description:
      - The account's password. It is proven by SCRAM over TLS and never sent.
      - If not set, the environment variable E(ARCHIPEL_PASSWORD) is used.
    type: str
    required: true
  server:
    description:
      - Name or address of the XMPP server. Its certificate must name the domain of O(jid), whatever is given here.
      - If not set, the environment variable E(ARCHIPEL_SERVER) is used, and else the domain of O(jid) (its SRV records
        where the Python library C(aiodns) is installed).
    type: str
  port:
    description:
      - Port of the XMPP server (STARTTLS).
      - If not set, the environment variable E(ARCHIPEL_PORT) is used.
    type: int
    default: 5222
  ca_file:
    description:
      - File with the certificate authority that signed the server's certificate, in PEM form. No other is trusted then.
      - If not set, the environment variable E(ARCHIPEL_CA_FILE) is used, and else the authorities of the system.
    type: path
  timeout:
    description:
      - Seconds to wait for the login, and for an answer beyond the time that was allowed for the work itself.
      - If not set, the environment variable E(ARCHIPEL_TIMEOUT) is used.
    type: float
    default: 30
requirements:
  - slixmpp >= 1.8.3
notes:
  - The options of the connection can be given once for all modules of a play with
    C(module_defaults), key C(group/archipel.platform.archipel).
"""

    # Beside the above, for plugins, for which Ansible itself reads the environment.
    PLUGINS = r"""
options:
  jid:
    env:
      - name: ARCHIPEL_JID
  password:
    env:
      - name: ARCHIPEL_PASSWORD
  server:
    env:
      - name: ARCHIPEL_SERVER
  port:
    env:
      - name: ARCHIPEL_PORT
  ca_file:
    env:
      - name: ARCHIPEL_CA_FILE
  timeout:
    env:
      - name: ARCHIPEL_TIMEOUT
"""
