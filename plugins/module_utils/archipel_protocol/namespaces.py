# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""XML namespaces on Archipel's wire (docs/protocol.md lists their actions)."""

from __future__ import annotations

# Archipel's own, unchanged since 2010.
HYPERVISOR_CONTROL = "archipel:hypervisor:control"
VM_CONTROL = "archipel:vm:control"
VM_DEFINITION = "archipel:vm:definition"
PERMISSIONS = "archipel:permissions"
SUBSCRIPTION = "archipel:subscription"
AVATAR = "archipel:avatar"
TAGS = "archipel:tags"  # also that of a domain's <metadata> (agent's tags.py)

PUSH = "archipel:push:"  # what follows names the kind

# Added by this collection.
DECLARATION = "archipel:declaration"
HANDOVER = "archipel:handover"
GRANTS = "archipel:grants"

# Error conditions carried inside <error/>.
ERROR_GENERIC = "archipel:error:generic"
ERROR_PERMISSION = "archipel:error:permission"
ERROR_LIBVIRT = "libvirt:error:generic"

# XMPP's.
STANZAS = "urn:ietf:params:xml:ns:xmpp-stanzas"  # RFC 6120, 8.3.3
REGISTER = "jabber:iq:register"  # XEP-0077
ROSTER = "jabber:iq:roster"  # RFC 6121, 2.1
VCARD = "vcard-temp"  # XEP-0054
PUBSUB = "http://jabber.org/protocol/pubsub"  # XEP-0060
PUBSUB_OWNER = "http://jabber.org/protocol/pubsub#owner"
PUBSUB_EVENT = "http://jabber.org/protocol/pubsub#event"
PING = "urn:xmpp:ping"  # XEP-0199
DISCO_INFO = "http://jabber.org/protocol/disco#info"  # XEP-0030
NICK = "http://jabber.org/protocol/nick"  # XEP-0172
DISCO_ITEMS = "http://jabber.org/protocol/disco#items"
VERSION = "jabber:iq:version"  # XEP-0092
COMMANDS = "http://jabber.org/protocol/commands"  # XEP-0050
DATA_FORMS = "jabber:x:data"  # XEP-0004
