# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Names of the platform's pubsub nodes (XEP-0060)."""

from __future__ import annotations

from . import jids

TAGS = "/archipel/tags"
ROLES = "/archipel/roles"
ADMIN_ACCOUNTS = "/archipel/adminaccounts"
VM_PARKING = "/archipel/vmparking"
REQUESTS_IN = "/archipel/platform/requests/in"
REQUESTS_OUT = "/archipel/platform/requests/out"
CENTRAL_AGENT = "/archipel/centralagentkeepalive"


def service(xmpp_domain: str) -> str:
    """The JID of the domain's pubsub service."""
    return f"pubsub.{xmpp_domain}"


def events(jid: str) -> str:
    """The node on which an entity tells its changes."""
    return f"/archipel/{jids.bare(jid)}/events"


def logs(jid: str) -> str:
    """The node on which an entity tells its log."""
    return f"/archipel/{jids.bare(jid)}/logs"
