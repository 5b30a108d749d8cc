# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What archipel_fleet says on the wire: its sessions, as the server logs them, its requests and their answers."""

from __future__ import annotations

import collections
import json
import sys
import typing as t
import uuid
from pathlib import Path

from ansible.module_utils.testing import patch_module_args
from people import until

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / ".ansible" / "collections"))

from ansible_collections.archipel.platform.plugins.module_utils import _client  # noqa: E402 - the path comes first
from ansible_collections.archipel.platform.plugins.module_utils.archipel_protocol import (  # noqa: E402 - as above
    jids,
    payloads,
)
from ansible_collections.archipel.platform.plugins.modules import archipel_fleet  # noqa: E402 - as above

LOG = "/var/log/ejabberd/ejabberd.log"


def sessions(platform, account: str) -> int:
    """How many sessions an account has begun, as the server's log tells."""
    mark = uuid.uuid4().hex
    with platform.stream() as stream:
        stream.login("admin", platform.password("admin"), mark)

    def told() -> str:
        return platform.run(platform.xmpp, f"cat {LOG}")

    # What came before is in the log when this is.
    until(lambda: mark in told())
    return told().count(f"Opened c2s session for {account}@{platform.domain}/")


class Request(t.NamedTuple):
    """What was asked of whom. ``vms`` are the machines that it is about by name, or by UUID where it moves one."""

    host: str
    action: str
    vms: tuple[str, ...]


def _read(request: _client.Request) -> Request:
    content = next(iter(request.payload))
    asked = json.loads(content.text or "{}")
    vms = [one["name"] for one in asked.get("vms", ())] or [asked[key] for key in ("uuid",) if key in asked]
    return Request(jids.node(request.to), content.get("action"), tuple(vms))


class Wire:
    """``log``: requests in the order in which they were sent and answered, each with whether it was sent."""

    def __init__(self) -> None:
        self.log: list[tuple[bool, Request]] = []

    def sent(self, action: str) -> list[Request]:
        return [request for sent, request in self.log if sent and request.action == action]

    def turns(self, action: str) -> list[tuple[str, bool]]:
        """The names of the machines, each when it is begun (True) and when it is done."""
        return [(name, sent) for sent, request in self.log if request.action == action for name in request.vms]

    def most(self, action: str) -> tuple[dict[str, int], int]:
        """How many machines were under way at the same time at most: of each hypervisor, and in all."""
        return most((request.host, len(request.vms), sent) for sent, request in self.log if request.action == action)

    def client(self) -> type[_client.Client]:
        """A client that writes what it does into ``log``."""
        log = self.log

        class Client(_client.Client):
            def __init__(self, options) -> None:
                super().__init__(options)
                self._known: dict[t.Any, Request] = {}

            def begin(self, request):
                pending = super().begin(request)
                self._known[pending] = _read(request)
                log.append((True, self._known[pending]))
                return pending

            def finished(self, begun):
                done = super().finished(begun)
                log.extend((False, self._known[pending]) for pending in done)
                return done

            def gather(self, requests):
                ours = [
                    _read(one) for one in requests if payloads.split_tag(one.payload.tag)[0].startswith("archipel:")
                ]
                log.extend((True, one) for one in ours)
                answers = super().gather(requests)
                log.extend((False, one) for one in ours)
                return answers

        return Client


def most(events: t.Iterable[tuple[str, int, bool]]) -> tuple[dict[str, int], int]:
    """Of (hypervisor, how many, whether they begin) in their order: how many there were at once, on each and in all."""
    now: collections.Counter[str] = collections.Counter()
    hosts: collections.Counter[str] = collections.Counter()
    whole = 0
    for host, count, begins in events:
        now[host] += count if begins else -count
        hosts[host] = max(hosts[host], now[host])
        whole = max(whole, sum(now.values()))
    return dict(hosts), whole


class Run(t.NamedTuple):
    """A run of the module in this process."""

    result: dict[str, t.Any]
    wire: Wire


def run_fleet(platform, monkeypatch, capsys, **options) -> Run:
    """Runs archipel_fleet as the automation account; fails where it does."""
    wire = Wire()
    connection = {
        "jid": f"automation@{platform.domain}",
        "password": platform.password("automation"),
        "server": platform.address(platform.xmpp),
        "ca_file": platform.ca_file,
    }
    check = {"_ansible_check_mode": options.pop("check", False)}
    capsys.readouterr()
    with monkeypatch.context() as patch, patch_module_args({**connection, **options, **check}):
        patch.setattr(archipel_fleet, "Client", wire.client())
        try:
            archipel_fleet.main()
        except SystemExit:
            pass
    result = json.loads(capsys.readouterr().out)
    assert not result.get("failed"), result["msg"]
    return Run(result, wire)
