# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What can go wrong between a module and the platform: branches of ArchipelError, caught once, in ``main()``.

Private to this collection; it may change without notice.
"""

from __future__ import annotations

from .archipel_protocol.errors import ArchipelError


class LibraryMissing(ArchipelError):
    """A Python library that the modules need is not installed where they run."""


class ServerUnreachable(ArchipelError):
    """No XMPP session could be had, or it was lost: name, network, port, time."""


class CertificateRefused(ArchipelError):
    """The server's certificate is not for its domain, or not from a trusted authority."""


class AuthenticationFailed(ArchipelError):
    """The server refused JID and password."""


class StanzaError(ArchipelError):
    """An XMPP error condition (RFC 6120, 8.3.3) in answer to a request; ``condition`` is its name."""

    def __init__(self, message: str, condition: str) -> None:
        super().__init__(message)
        self.condition = condition


class NoAnswer(ArchipelError):
    """A request was sent, and no answer came in time."""


class HypervisorUnknown(ArchipelError):
    """A declaration names a hypervisor that the platform does not have."""


class AgentOffline(ArchipelError):
    """A hypervisor is known to the platform, and its agent is not connected."""


class InvalidSpec(ArchipelError):
    """A declaration cannot be meant; ``problems`` has a sentence, with the option's path, for each reason."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class Conflict(ArchipelError):
    """A declaration contradicts what the platform holds."""
