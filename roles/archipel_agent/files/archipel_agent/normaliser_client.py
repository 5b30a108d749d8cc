# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The agent's side of the normaliser: keeps its process, and trusts it only where it equals the daemon."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sys
import typing as t

from archipel_protocol.errors import ArchipelError, LibvirtError

from . import domain_xml

log = logging.getLogger(__name__)

# Domain types that the embedded driver knows.
TYPES = ("qemu", "kvm")
# Longest line of an answer, in bytes.
_LINE = 16 * domain_xml.MAX_CHARACTERS
# Parts of the domain capabilities that depend on who asks, or on the state of the moment.
_VOLATILE = ("features/sev", "features/sgx")
# Seconds for which an answer is kept, so that a plan, its apply and the look under the machine's lock ask once. What
# libvirt makes of a text follows from the text and from what is installed, which may change, as when QEMU is upgraded.
_KEPT_FOR = 60.0
# Characters of answers that are kept.
_KEPT = 4 * domain_xml.MAX_CHARACTERS


class _Died(Exception):
    """The process ended, or was ended because it did not answer in time."""


class Normaliser:
    """Completes definitions as the daemon would, and knows where it cannot.

    ``root`` is a directory of the agent's own, ``libvirt`` the facade of the daemon.
    """

    def __init__(self, root: str, libvirt: t.Any, timeout: float = 10.0, first_timeout: float = 60.0) -> None:
        self.root = os.path.abspath(root)
        self.timeout = timeout
        # The first look at a QEMU binary starts it to ask for its features.
        self.first_timeout = first_timeout
        self._libvirt = libvirt
        self._process: asyncio.subprocess.Process | None = None
        self._version = 0
        self._turn = asyncio.Lock()
        self._compared: tuple[t.Any, t.Any] | None = None
        self._usable: dict[str, bool] = {}
        self._known: dict[tuple[str, str], str] = {}

    async def start(self) -> None:
        """Start the process and compare it with the daemon, so that the first plan need not; if there is a daemon."""
        async with self._turn:
            if self._libvirt.connection is not None:
                await self._prepare()

    async def stop(self) -> None:
        """End the process."""
        async with self._turn:
            await self._end()

    async def normalise(self, xml: str, domain_type: str) -> str | None:
        """The definition as the daemon would keep it; None where only the daemon itself can tell.

        Raises LibvirtError where libvirt refuses the definition.
        """
        if domain_type not in TYPES:
            return None
        async with self._turn:
            await self._prepare()
            if not self._usable.get(domain_type, False):
                return None
            if (domain_type, xml) in self._known:
                return self._known[domain_type, xml]
            try:
                reply = await self._ask({"call": "normalise", "xml": xml}, self.timeout)
            except _Died as exc:
                raise ArchipelError(f"the definition cannot be planned: {exc}") from None
            if "error" in reply:
                raise LibvirtError(reply["error"], reply["code"])
            self._keep((domain_type, xml), reply["xml"])
        return str(reply["xml"])

    def _keep(self, question: tuple[str, str], answer: str) -> None:
        """Know an answer for a while. It may hold secrets, so it does not stay longer than it serves."""
        if sum(map(len, self._known.values())) + len(answer) <= _KEPT:
            self._known[question] = answer
            asyncio.get_running_loop().call_later(_KEPT_FOR, self._known.pop, question, None)

    async def _prepare(self) -> None:
        """Have a process that was compared with the daemon as it is connected now."""
        if self._process is not None and self._process.returncode is not None:
            log.warning("the normaliser ended with status %s; it is started again", self._process.returncode)
            self._process = None
        connection = self._libvirt.connection
        if self._compared == (self._process, connection):
            # Also where it could not be started: another try can wait for another daemon.
            return
        self._usable = {}
        self._known = {}
        try:
            if self._process is None:
                await self._launch()
            self._usable = {kind: await self._equals_daemon(kind) for kind in TYPES}
        except (_Died, OSError) as exc:
            log.warning("plans compare text: %s", exc)
        if connection is None or connection is not self._libvirt.connection:
            # Nothing was learnt about the daemon, so a plan would guess.
            raise LibvirtError("libvirt is out of reach")
        self._compared = (self._process, connection)

    async def _launch(self) -> None:
        home = os.path.join(self.root, "home")
        os.makedirs(home, mode=0o700, exist_ok=True)
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "archipel_agent.normaliser",
            self.root,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            # libvirt's log; what matters of it comes as an answer.
            stderr=asyncio.subprocess.DEVNULL,
            env=_environment(home),
            limit=_LINE,
        )
        greeting = await self._reply(self.first_timeout)
        if "error" in greeting:
            await self._end()
            raise _Died(f"the embedded driver does not start: {greeting['error']}")
        self._version = greeting["version"]

    async def _equals_daemon(self, domain_type: str) -> bool:
        """Whether the daemon is the same libvirt with the same QEMU, which can do the same."""
        mine = await self._ask({"call": "capabilities", "type": domain_type}, self.first_timeout)
        try:
            version, theirs = await self._libvirt.call(_daemon_capabilities, domain_type, timeout=self.first_timeout)
        except LibvirtError as exc:
            if "error" not in mine:
                log.info("libvirt has no domains of type %s here: %s", domain_type, exc)
            return False
        if version != self._version:
            log.warning("the daemon has libvirt %d, the normaliser %d: plans compare text", version, self._version)
            return False
        if "error" in mine:
            log.warning("the normaliser has no domains of type %s: %s: plans compare text", domain_type, mine["error"])
            return False
        difference = _difference(theirs, mine["xml"])
        if difference:
            log.warning("the normaliser's capabilities for %s differ: %s: plans compare text", domain_type, difference)
        return not difference

    async def _ask(self, request: dict[str, str], timeout: float) -> dict[str, t.Any]:
        process = self._process
        if process is None or process.stdin is None:
            raise _Died("the normaliser does not run")
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            await process.stdin.drain()
        except ConnectionError:
            await self._end()
            raise _Died("the normaliser has ended") from None
        return await self._reply(timeout)

    async def _reply(self, timeout: float) -> dict[str, t.Any]:
        if self._process is None or self._process.stdout is None:
            raise _Died("the normaliser does not run")
        try:
            async with asyncio.timeout(timeout):
                line = await self._process.stdout.readline()
        except asyncio.TimeoutError:
            await self._end()
            raise _Died(f"the normaliser did not answer within {timeout:g} s") from None
        except asyncio.CancelledError:
            # Its answer would be taken for that of the next request.
            await self._end()
            raise
        if not line.endswith(b"\n"):
            status = await self._end()
            raise _Died(f"the normaliser ended with status {status}")
        return dict(json.loads(line))

    async def _end(self) -> int | None:
        process, self._process = self._process, None
        if process is None:
            return None
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        return await process.wait()


def _environment(home: str) -> dict[str, str]:
    """The environment of the process.

    A user's libvirt keeps state below the home directory, which a system user lacks; and it would start daemons of its
    own to ask them about networks, waiting five seconds for each.
    """
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    places = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR"), home)
    modules = os.pathsep.join(path for path in sys.path if path)
    return {**kept, **places, "PYTHONPATH": modules, "LIBVIRT_AUTOSTART": "0"}


def _daemon_capabilities(connection: t.Any, domain_type: str) -> tuple[int, str]:
    """(libvirt's version, domain capabilities of its default machine)."""
    return connection.getLibVersion(), connection.getDomainCapabilities(None, None, None, domain_type)


def _difference(theirs: str, mine: str) -> str:
    """The first path in which two domain capabilities differ; empty if they are the same."""
    trees = [domain_xml.parse(text, "the domain capabilities") for text in (theirs, mine)]
    for tree in trees:
        for path in _VOLATILE:
            for found in tree.findall(path):
                found.getparent().remove(found)
    changes = domain_xml.changes(*trees)
    return changes[0].path if changes else ""
