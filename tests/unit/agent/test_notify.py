# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""systemd's notifications, to a real socket."""

from __future__ import annotations

import os
import socket

import pytest

from archipel_agent import notify


@pytest.mark.parametrize("abstract", [False, True])
def test_notify(tmp_path, monkeypatch, abstract):
    name = f"@archipel-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name.replace("@", "\0", 1) if abstract else name)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        notify.notify("READY=1")
        assert manager.recv(100) == b"READY=1"


def test_without_systemd_nothing_happens(monkeypatch):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify.notify("READY=1")


@pytest.mark.parametrize(
    "variables, seconds",
    [({"WATCHDOG_USEC": "60000000"}, 30.0), ({}, None), ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, None)],
)
def test_watchdog_interval(monkeypatch, variables, seconds):
    for name in ("WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert notify.watchdog_interval() == seconds
