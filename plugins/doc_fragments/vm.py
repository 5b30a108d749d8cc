# Copyright (c) 2026, Archipel maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of a virtual machine's options; plugins/module_utils/_spec.py has their argument spec."""

from __future__ import annotations

import textwrap


def as_list(documentation: str) -> str:
    """The options in ``documentation`` as those of each element of a list called ``vms``."""
    options = documentation.split("options:\n", 1)[1].replace("O(", "O(vms[].")
    return """
options:
  vms:
    description: The virtual machines, in any order. Each is found wherever it is.
    type: list
    elements: dict
    required: true
    suboptions:
""" + textwrap.indent(options, "    ")


class ModuleDocFragment:
    """Extend with C(archipel.platform.vm), or C(archipel.platform.vm.list) for a list of them called C(vms)."""

    DOCUMENTATION = r"""
options:
  name:
    description:
      - Name of the virtual machine, unique over all hypervisors. It is found wherever it is.
      - A virtual machine is not renamed.
      - One of O(name) and O(uuid) is required.
    type: str
  uuid:
    description:
      - UUID of the virtual machine, which is also the name of its XMPP account.
      - That of a new one derives from the XMPP domain and O(name) if it is not given, so that the same declaration is
        always the same virtual machine, with the same MAC addresses.
    type: str
  state:
    description:
      - V(present) is defined, and its power is left as it is.
      - V(running), V(stopped) and V(paused) are defined and in that state.
      - V(stopped) asks the guest to shut down, and fails where it has not after O(shutdown_timeout), unless O(force).
      - V(absent) is not defined. It fails on a virtual machine that is active, unless O(force). Its disks are kept.
    type: str
    choices:
      - present
      - running
      - stopped
      - paused
      - absent
    default: present
  hypervisor:
    description:
      - Where the virtual machine is to be, by the name of the hypervisor's XMPP account, such as V(hv1).
      - One that is elsewhere moves, live if it is running or paused.
      - A new one needs it, unless the platform has one hypervisor only.
    type: str
  memory:
    description:
      - Size of the memory, as a number and a unit (C(KiB), C(MiB), C(GiB), C(TiB)), such as V(2GiB).
      - A new virtual machine needs it, unless O(xml) has it.
    type: str
  vcpus:
    description: Number of virtual processors.
    type: int
  domain_type:
    description:
      - How the processors are virtualised.
      - A new virtual machine gets V(kvm) where the hypervisor can, and else V(qemu), if it is not given.
    type: str
    choices:
      - kvm
      - qemu
  disks:
    description:
      - The disks, all of them. One that the virtual machine has and the list has not is detached, and its storage kept.
      - A disk that the virtual machine has keeps its name in the guest, such as C(vda). A new one has the next that
        is free.
    type: list
    elements: dict
    suboptions:
      name:
        description: Names the volume that is created, C(VM-NAME.FORMAT), if O(disks[].volume) does not.
        type: str
      pool:
        description: Storage pool of the volume. If not given, C(default).
        type: str
      volume:
        description: Name of the volume. It must exist, unless O(disks[].size) is given.
        type: str
      path:
        description: An existing file on the hypervisor, instead of a volume.
        type: str
      size:
        description:
          - Size of the volume to be created if it does not exist, such as V(20GiB).
          - An existing volume is left as it is.
        type: str
      format:
        description:
          - Format of the volume, or of the file at O(disks[].path). A new volume is V(qcow2) if it is not given.
        type: str
        choices:
          - qcow2
          - raw
      bus:
        description: How the guest sees the disk. A new one is V(virtio) if it is not given.
        type: str
        choices:
          - virtio
          - scsi
          - sata
          - ide
          - usb
  cdrom:
    description:
      - The medium in the CD drive, as a file's name in C(/vm/iso) on the hypervisor, or an absolute path there.
      - Empty for an empty drive.
    type: str
  networks:
    description:
      - The network interfaces, all of them and in their order. One that the list has not is detached.
      - An interface without O(networks[].mac) has the address that derives from O(uuid) and its position.
    type: list
    elements: dict
    suboptions:
      network:
        description: Name of a network of libvirt. Either this or O(networks[].bridge) is required.
        type: str
      bridge:
        description: Name of a bridge of the hypervisor.
        type: str
      mac:
        description: MAC address, in quotes, because YAML takes one of digits for a number.
        type: str
      model:
        description: How the guest sees the interface, such as V(virtio) or V(e1000e).
        type: str
        default: virtio
  graphics:
    description: The graphical consoles, all of them, at most one of a type.
    type: list
    elements: dict
    suboptions:
      type:
        description: Protocol of the console. Its port is chosen by libvirt.
        type: str
        choices:
          - vnc
          - spice
        default: vnc
      listen:
        description: Address of the hypervisor to listen on. libvirt's own default is C(127.0.0.1).
        type: str
      password:
        description:
          - Password of the console, for V(vnc) of at most 8 characters.
          - It is never shown in a result, a diff or a log.
        type: str
  kernel:
    description: Path on the hypervisor of a kernel to boot, instead of a disk. Empty to boot from a disk again.
    type: str
  initrd:
    description: Path on the hypervisor of the initial RAM disk that goes with O(kernel).
    type: str
  cmdline:
    description: Command line of O(kernel).
    type: str
  autostart:
    description: Whether the virtual machine starts with its hypervisor.
    type: bool
  tags:
    description:
      - The tags, all of them. One that the list has not is removed; an empty list removes all.
      - They are kept in the definition, so they move with the virtual machine. A running one has them at once.
      - M(archipel.platform.archipel_tag) adds and removes single ones, of many virtual machines.
    type: list
    elements: str
  force:
    description:
      - For V(stopped), powers off a guest that did not shut down in O(shutdown_timeout).
      - For V(absent), powers off an active virtual machine first.
    type: bool
    default: false
  shutdown_timeout:
    description: Seconds that a guest has to shut down.
    type: float
    default: 60
  wait:
    description: Whether to wait until the state is reached.
    type: bool
    default: true
  wait_timeout:
    description: Seconds to wait for a state, or for a migration.
    type: float
    default: 120
  xml:
    description:
      - Domain XML of libvirt, whole or in part, for what has no option here. The other options are laid over it.
      - See U(https://libvirt.org/formatdomain.html).
      - It may hold passwords, so Ansible shows it nowhere. What it changes is in the diff, without passwords.
    type: str
"""

    LIST: str = as_list(DOCUMENTATION)
