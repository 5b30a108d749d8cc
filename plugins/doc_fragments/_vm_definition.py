# Copyright (c) 2026, Archipel maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of a virtual machine's options besides its devices.

plugins/module_utils/_vm_system.py has their argument spec.
"""

from __future__ import annotations

SYSTEM = r"""
  title:
    description: A short title for people.
    type: str
  description:
    description: A text for people.
    type: str
  metadata:
    description:
      - XML elements that applications keep with the virtual machine, each of an XML namespace of its own.
      - An element takes the place of the one with its name. Others stay.
    type: list
    elements: str
  memory:
    description:
      - Size of the memory, with a unit (C(KiB), C(MiB), C(GiB), C(TiB)), such as V(2GiB).
      - A new virtual machine needs it, unless O(xml) has it.
    type: str
  max_memory:
    description:
      - How far O(memory) can grow while the guest runs. If not given, it is O(memory).
    type: str
  memory_backing:
    description: What the memory is made of on the hypervisor.
    type: dict
    suboptions:
      hugepages:
        description: Size of the huge pages to take, such as V(2MiB).
        type: str
      source:
        description: Kind of memory. V(memfd) or V(file) is needed by some devices, such as V(virtiofs) file systems.
        type: str
        choices:
          - anonymous
          - file
          - memfd
      access:
        description: Whether other processes of the hypervisor share it, as V(virtiofs) file systems need.
        type: str
        choices:
          - shared
          - private
  vcpus:
    description: Number of virtual processors.
    type: int
  max_vcpus:
    description: How far O(vcpus) can grow while the guest runs. If not given, it is O(vcpus).
    type: int
  cpu:
    description: What the guest sees of its processors.
    type: dict
    suboptions:
      mode:
        description: Where the model comes from.
        type: str
        choices:
          - host-passthrough
          - host-model
          - maximum
          - custom
      model:
        description: Name of the model, such as V(Skylake-Server). The mode is V(custom) then.
        type: str
      sockets:
        description:
          - Number of sockets. Of sockets, cores and threads, those that are not given are 1, and their product is the
            number of virtual processors.
        type: int
      cores:
        description: Cores of a socket.
        type: int
      threads:
        description: Threads of a core.
        type: int
      features:
        description: Single features. Those that are not named stay as they are.
        type: list
        elements: dict
        suboptions:
          name:
            description: Name of the feature, such as V(vmx).
            type: str
            required: true
          policy:
            description: What is asked of it.
            type: str
            choices:
              - force
              - require
              - optional
              - disable
              - forbid
            default: require
  numa:
    description: The guest's NUMA nodes, all of them. Together they have the whole O(memory), or O(max_memory).
    type: list
    elements: dict
    suboptions:
      cpus:
        description: Its virtual processors, such as V(0-3).
        type: str
        required: true
      memory:
        description: Its memory, such as V(1GiB).
        type: str
        required: true
  numa_nodes:
    description: NUMA nodes of the hypervisor that the memory comes from, such as V(0-1).
    type: str
  domain_type:
    description:
      - How the processors are virtualised.
      - A new virtual machine gets V(kvm) where the hypervisor can, and else V(qemu), if it is not given; on a
        hypervisor with another driver than QEMU, that driver's.
      - The collection's tests start guests of V(qemu) and V(test). What becomes of a declaration of V(xen) is tested as
        far as the plan.
    type: str
    choices:
      - kvm
      - qemu
      - lxc
      - xen
      - test
  arch:
    description: Architecture, such as V(x86_64). That of the hypervisor if it is not given.
    type: str
  machine:
    description:
      - Machine type, such as V(q35). libvirt's own default if it is not given.
      - An alias such as V(q35) is true of every version of that machine, so a guest never moves to a newer one by
        itself.
    type: str
  firmware:
    description:
      - What boots the guest. The variables of V(efi) are kept with the virtual machine until it is removed.
      - They are in a file of the hypervisor from the first start on, and move with a guest that runs. So a virtual
        machine that has them does not move while it is off. What was paused when it moved has its variables written
        down there when it goes on.
      - The file stays at the hypervisor that a virtual machine has left, in C(/var/lib/libvirt/qemu/nvram). A new one
        of the same name there would begin with it, so remove it where that matters.
    type: str
    choices:
      - bios
      - efi
  boot:
    description: What to boot from, in this order.
    type: list
    elements: str
    choices:
      - hd
      - cdrom
      - network
      - fd
  kernel:
    description: Path on the hypervisor of a kernel to boot, instead of a disk. Empty to boot from a disk again.
    type: str
  initrd:
    description: Path on the hypervisor of the initial RAM disk that goes with O(kernel).
    type: str
  cmdline:
    description: Command line of O(kernel).
    type: str
  clock:
    description: The guest's clock.
    type: dict
    suboptions:
      offset:
        description: What it shows. Guests with Windows want V(localtime).
        type: str
        choices:
          - utc
          - localtime
          - timezone
      timezone:
        description: Name of the time zone, for V(timezone).
        type: str
      timers:
        description: Single timers. Those that are not named stay as they are.
        type: list
        elements: dict
        suboptions:
          name:
            description: Name of the timer, such as V(hpet) or V(rtc).
            type: str
            required: true
          present:
            description: Whether the guest has it.
            type: bool
          tickpolicy:
            description: What becomes of ticks that the guest missed.
            type: str
            choices:
              - delay
              - catchup
              - merge
              - discard
  on_poweroff:
    description: What libvirt does when the guest powers off.
    type: str
    choices:
      - destroy
      - restart
      - preserve
      - rename-restart
  on_reboot:
    description: What libvirt does when the guest reboots.
    type: str
    choices:
      - destroy
      - restart
      - preserve
      - rename-restart
  on_crash:
    description: What libvirt does when the guest crashes.
    type: str
    choices:
      - destroy
      - restart
      - preserve
      - rename-restart
      - coredump-destroy
      - coredump-restart
"""
