# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What counts of a stream before it is encrypted (RFC 6120, 5 and 13.4).

Until then anybody on the way may have written what comes: a request in an administrator's name, or an offer to go on
without TLS, even without a password. slixmpp takes such offers.
"""

from __future__ import annotations

import typing as t
from xml.etree import ElementTree as ET

_STREAMS = "{http://etherx.jabber.org/streams}"
_TLS = "{urn:ietf:params:xml:ns:xmpp-tls}"
FEATURES = f"{_STREAMS}features"


def is_encrypted(transport: t.Any) -> bool:
    """Whether an asyncio transport, or None, is one of TLS."""
    return transport is not None and transport.get_extra_info("ssl_object") is not None


def before_tls(element: ET.Element) -> ET.Element | None:
    """What of an element counts that came without TLS: of features the offer of TLS alone, None where there is none.

    Raises ValueError where the stream cannot become encrypted.
    """
    if element.tag == FEATURES:
        offered = element.find(f"{_TLS}starttls")
        if offered is None:
            raise ValueError("no STARTTLS is offered")
        alone = ET.Element(FEATURES)
        alone.append(offered)
        return alone
    return element if element.tag == f"{_STREAMS}error" or element.tag.startswith(_TLS) else None
