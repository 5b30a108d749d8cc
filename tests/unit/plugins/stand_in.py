# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The other side of a session, for what is decided on this one."""

from __future__ import annotations

import types

from ansible_collections.archipel.platform.plugins.module_utils.archipel_protocol import declaration, payloads
from ansible_collections.archipel.platform.plugins.module_utils.archipel_protocol.errors import ArchipelError

from .specs import DOMAIN


class Answered:
    """A request that was sent."""

    def __init__(self, answer):
        self.result = lambda: answer


class Client:
    """A session with two hypervisors; ``answer(node, action, request)`` is their side."""

    domain = DOMAIN
    options = types.SimpleNamespace(jid=f"automation@{DOMAIN}", timeout=1.0)

    def __init__(self, answer):
        self.answer = answer
        self.rounds = []

    def hypervisors(self):
        return ["hv1", "hv2"]

    def gather(self, requests):
        self.rounds.append([request.to.partition("@")[0] for request in requests])
        return [self._reply(request) for request in requests]

    def begin(self, request):
        return Answered(self._reply(request))

    def finished(self, begun):
        return {begun[0]}

    def _reply(self, request):
        if request.kind == "get":
            return None  # nobody has a vCard
        namespace, action, element = payloads.parse_request(request.payload)
        try:
            found = self.answer(request.to.partition("@")[0], action, declaration.decode(element.text))
        except ArchipelError as exc:
            return exc
        reply = payloads.reply(namespace, text=declaration.encode(found))
        payloads.check_size(reply, "the answer")
        return reply
