# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks an entity for an action of Archipel's, as any XMPP client would, and prints the answer: JID NAMESPACE ACTION.

The connection is that of the environment's ARCHIPEL_JID, ARCHIPEL_PASSWORD, ARCHIPEL_SERVER and ARCHIPEL_CA_FILE.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from xml.etree import ElementTree as ET


def main() -> None:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / ".ansible" / "collections"))
    from ansible_collections.archipel.platform.plugins.module_utils._client import Client, Request
    from ansible_collections.archipel.platform.plugins.module_utils._connection import Options
    from ansible_collections.archipel.platform.plugins.module_utils.archipel_protocol import payloads
    from ansible_collections.archipel.platform.plugins.module_utils.archipel_protocol.errors import ArchipelError

    jid, namespace, action = sys.argv[1:]
    options = {name: os.environ["ARCHIPEL_" + name.upper()] for name in ("jid", "password", "server", "ca_file")}
    try:
        with Client(Options(**options)) as client:
            answer = client.send(Request(jid, payloads.request(namespace, action)))
    except ArchipelError as exc:
        sys.exit(exc.message)
    print("" if answer is None else ET.tostring(answer, encoding="unicode"))


if __name__ == "__main__":
    main()
