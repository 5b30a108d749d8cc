# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Publishes an item on a node: `publish_item.py NODE ID`, with the modules' connection from the environment."""

from __future__ import annotations

import os
import sys

from xmpp_stream import Stream

user, domain = os.environ["ARCHIPEL_JID"].split("@")
server = (os.environ.get("ARCHIPEL_SERVER", domain), int(os.environ.get("ARCHIPEL_PORT", "5222")))
item = f"<item id='{sys.argv[2]}'><test xmlns='archipel:test'/></item>"
publish = f"<publish node='{sys.argv[1]}'>{item}</publish>"
with Stream(server, domain, os.environ["ARCHIPEL_CA_FILE"]) as stream:
    stream.login(user, os.environ["ARCHIPEL_PASSWORD"])
    stream.ask("set", f"<pubsub xmlns='http://jabber.org/protocol/pubsub'>{publish}</pubsub>", f"pubsub.{domain}")
