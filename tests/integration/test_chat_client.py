# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""A client that others wrote, profanity as Debian ships it, asks a machine for its state and starts it.

It trusts the authorities of its host, to which the platform's is added meanwhile, and types into a terminal.
"""

from __future__ import annotations

import shlex

import pytest
from people import until

HOME = "/run/archipel-chat-test"
AUTHORITY = "/usr/local/share/ca-certificates/archipel-chat-test.crt"
PREPARE = f"""
umask 077
mkdir -p {HOME}/.config/profanity {HOME}/.local/share/profanity
printf '[logging]\\nchlog=true\\n' > {HOME}/.config/profanity/profrc
printf '[automation]\\nenabled=true\\njid=automation@%s\\nresource=profanity\\ntls.policy=force\\npassword=%s\\n' \\
  {{domain}} "$(cat /etc/archipel/secrets/automation)" > {HOME}/.local/share/profanity/accounts
install -m 644 /etc/archipel/ca/ca.pem {AUTHORITY} && update-ca-certificates
mkfifo {HOME}/keys
"""
RUN = f"HOME={HOME} TERM=xterm script -qec 'profanity -a automation' /dev/null"
CLEAN = f"rm -rf {HOME} {AUTHORITY}; update-ca-certificates --fresh"


class Profanity:
    """The client on the XMPP server's host."""

    def __init__(self, platform) -> None:
        self._run = lambda command, check=True: platform.run(platform.xmpp, command, check)
        self._run("command -v profanity || apt-get -q install -y --no-install-recommends profanity", check=False)
        self._run(PREPARE.format(domain=platform.domain))
        # Opened for both directions, so that it stays open between what is typed.
        start = f"sleep infinity > {HOME}/keys & echo $! > {HOME}/typist; {RUN} < {HOME}/keys > {HOME}/screen"
        self._run(f"nohup sh -c {shlex.quote(start)} > /dev/null 2>&1 < /dev/null &")

    def type(self, line: str) -> None:
        self._run(f"printf '%s\\r' {shlex.quote(line)} > {HOME}/keys")

    def shows(self, text: str) -> bool:
        return text in self._run(f"cat {HOME}/screen")

    def chat_log(self) -> str:
        return self._run(f"cat {HOME}/.local/share/profanity/chatlogs/*/*/*.log", check=False)

    def quit(self) -> None:
        self.type("/quit")
        self._run(f"kill $(cat {HOME}/typist); {CLEAN}", check=False)


@pytest.fixture
def profanity(platform):
    client = Profanity(platform)
    yield client
    client.quit()


def test_somebody_elses_client_asks_a_machine_and_starts_it(managed, profanity):
    until(lambda: profanity.shows("logged in successfully"))
    profanity.type(f"/msg {managed.bare} state")
    until(lambda: f"{managed.bare}: {managed.name} is stopped" in profanity.chat_log())
    profanity.type("start")
    until(lambda: f"{managed.bare}: {managed.name} is started" in profanity.chat_log())
    assert managed.virsh("domstate") == "running"
