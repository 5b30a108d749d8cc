# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Permission names. One action asks for one of them; default is deny."""

from __future__ import annotations

# Every permission but HOST_ACCESS.
ALL = "all"
# What makes its holder as good as root on the host: emulator, qemu:commandline, host devices, paths outside of /vm.
# ``all`` does not contain it; it is granted by name, or held as a root administrator.
HOST_ACCESS = "host_access"
# To see an entity's presence.
PRESENCE = "presence"
# To read one's own permissions on an entity: whoever has any there has this one, too.
PERMISSION_GETOWN = "permission_getown"

HYPERVISOR = {
    "rostervm": "list the virtual machines of the hypervisor",
    "manage": "bring a domain of libvirt under management",
    "unmanage": "release a virtual machine from management; its domain stays",
    "alloc": "make a virtual machine",
    "soft_alloc": "take over a virtual machine's definition and account",
    "free": "remove a virtual machine; its disks stay",
    "clone": "make a copy of a virtual machine",
    "setorginfo": "change the name of a virtual machine, and whose it is",
    "ip": "read the hypervisor's address",
    "migrationinfo": "read where virtual machines migrate to",
    "capabilities": "read what libvirt can do here",
    "nodeinfo": "read processors and memory of the host",
    "declaration_inventory": "read what the hypervisor has, and names, states and definitions of all virtual machines",
    "declaration_plan": "ask what a declaration would change",
    "declaration_apply": "make a declaration true",
    "declaration_migrate": "move a virtual machine to another hypervisor",
}

VM = {
    "info": "read state, memory and processors",
    "create": "start the virtual machine",
    "shutdown": "ask the guest to shut down",
    "destroy": "power off",
    "suspend": "pause",
    "resume": "continue after a pause",
    "reboot": "ask the guest to boot again",
    "autostart": "have it start with its hypervisor, or not",
    "memory": "change the memory that the guest may use",
    "setvcpus": "change the number of processors",
    "networkinfo": "read what its interfaces have transferred",
    "screenshot": "see what is on its screen",
    "capabilities": "read what libvirt can do on its hypervisor",
    "free": "remove the virtual machine; its disks stay",
    "migrate": "move to another hypervisor",
    "xmldesc": "read the definition",
    "define": "change the definition",
    "undefine": "remove the definition",
}

COMMON = {
    "settags": "change the tags",
    ALL: "every permission but host_access",
    HOST_ACCESS: "definitions that reach into the host",
    PRESENCE: "see the presence",
    PERMISSION_GETOWN: "read one's own permissions; comes with any other",
    "permission_list": "list the permissions that there are",
    "permission_get": "read who was granted what",
    "permission_set": "grant, and take away, what one has oneself",
    "permission_setown": "drop one's own permissions",
    "subscription_add": "have the entity ask for a place in somebody's roster",
    "subscription_remove": "have the entity leave somebody's roster",
    "getavatars": "see the pictures that there are",
    "setavatar": "choose the picture of the entity",
}

NAMES = frozenset(HYPERVISOR) | frozenset(VM) | frozenset(COMMON)

# What there is on each kind of entity, with what it is for.
KINDS = {"hypervisor": {**HYPERVISOR, **COMMON}, "vm": {**VM, **COMMON}}
