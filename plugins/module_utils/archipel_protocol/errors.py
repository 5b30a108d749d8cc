# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one tree of errors that the agent raises and the controller understands.

An error travels as Archipel's form (docs/protocol.md)::

    <iq type="error"><query xmlns="NS"/><error code="CODE" type="cancel">
      <undefined-condition xmlns="urn:ietf:params:xml:ns:xmpp-stanzas"/>
      <archipel-error-generic xmlns="archipel:error:generic"/><text>MESSAGE</text></error></iq>
"""

from __future__ import annotations

from . import namespaces as ns

# Archipel's codes, one for each kind of request.
CODE_PERMISSION = -1
CODE_PERMISSION_GET = -4
CODE_AVATAR_LIST = -1
CODE_AVATAR_SET = -2
CODE_PERMISSION_SET = -5
CODE_PERMISSION_LIST = -6
CODE_TAGS = -7
CODE_SUBSCRIPTION_ADD = -8
CODE_SUBSCRIPTION_REMOVE = -9
CODE_MALFORMED = -42
CODE_MIGRATING = -43
CODE_VM_CREATE = -1001
CODE_VM_SUSPEND = -1002
CODE_VM_RESUME = -1003
CODE_VM_DESTROY = -1004
CODE_VM_SHUTDOWN = -1005
CODE_VM_REBOOT = -1006
CODE_VM_DEFINE = -1007
CODE_VM_INFO = -1009
CODE_VM_XMLDESC = -1011
CODE_VM_MIGRATE = -1013
CODE_VM_AUTOSTART = -1015
CODE_VM_MEMORY = -1016
CODE_VM_NETWORKINFO = -1017
CODE_VM_CAPABILITIES = -1019
CODE_VM_FREE = -1020
CODE_VM_SCREENSHOT = -1021
CODE_HYPERVISOR_ALLOC = -9001
CODE_HYPERVISOR_FREE = -9002
CODE_HYPERVISOR_ROSTERVM = -9003
CODE_HYPERVISOR_CLONE = -9004
CODE_HYPERVISOR_IP = -9005
CODE_HYPERVISOR_SOFT_ALLOC = -9007
CODE_HYPERVISOR_CAPABILITIES = -9009
CODE_HYPERVISOR_MANAGE = -9010
CODE_HYPERVISOR_UNMANAGE = -9011
CODE_HYPERVISOR_MIGRATIONINFO = -9012
CODE_HYPERVISOR_SETORGINFO = -9013
CODE_HYPERVISOR_NODEINFO = -9014
# Added by this collection.
CODE_DECLARATION = -20
CODE_HANDOVER = -21


class ArchipelError(Exception):
    """Something that was asked for cannot be had; the text is fit for a person.

    ``code`` is an Archipel or libvirt error number, ``namespace`` one of the ``ERROR_*`` namespaces.
    """

    namespace = ns.ERROR_GENERIC
    code = CODE_MALFORMED

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code


class MalformedRequest(ArchipelError):
    """The request does not have the form that its action asks for."""


class PermissionDenied(ArchipelError):
    """The sender lacks the permission that the action asks for."""

    namespace = ns.ERROR_PERMISSION
    code = CODE_PERMISSION


class LibvirtError(ArchipelError):
    """libvirt refused; ``code`` is its virErrorNumber and the text its own."""

    namespace = ns.ERROR_LIBVIRT
