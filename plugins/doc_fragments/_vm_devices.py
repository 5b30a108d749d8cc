# Copyright (c) 2026, Archipel maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of a virtual machine's devices.

plugins/module_utils/_vm_storage.py, _vm_cloud_init.py, _vm_network.py and _vm_devices.py have their argument spec.
"""

from __future__ import annotations

DEVICES = r"""
  disks:
    description:
      - The disks, all of them. One that the virtual machine has and the list has not is detached, and its storage kept.
      - A disk that the virtual machine has keeps its name in the guest, such as C(vda). A new one has the next that
        is free, unless O(disks[].target) says otherwise.
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
        description:
          - Name of the volume. It must exist, unless O(disks[].size), O(disks[].clone) or O(disks[].backing) is given.
        type: str
      path:
        description: An existing file or block device on the hypervisor, instead of a volume.
        type: str
      network:
        description: Storage that is reached over the network, instead of a volume.
        type: dict
        suboptions:
          protocol:
            description: How it is reached.
            type: str
            required: true
            choices:
              - rbd
              - iscsi
              - nbd
              - gluster
              - http
              - https
          name:
            description: Name of the image, the target, the export or the path there.
            type: str
          hosts:
            description: Where it is.
            type: list
            elements: dict
            suboptions:
              name:
                description: Name or address.
                type: str
                required: true
              port:
                description: Port, if it is not the protocol's own.
                type: int
          username:
            description: Whom libvirt logs in as.
            type: str
          secret_uuid:
            description: UUID of the secret of libvirt that holds the password or key of O(disks[].network.username).
            type: str
      size:
        description:
          - Size of the volume, such as V(20GiB). It is created if it does not exist, and grown if it is smaller, also
            while the guest runs.
          - A volume is never shrunk; a smaller size than it has is an error.
        type: str
      format:
        description:
          - Format of the volume, or of the file at O(disks[].path). A new volume is V(qcow2) if it is not given.
          - A volume in a pool that is no folder, such as one of LVM, has no format, and is V(raw). Its name ends in
            C(.qcow2) nevertheless, unless V(raw) or O(disks[].volume) is given.
          - A disk keeps the format that it has. Another one is refused.
        type: str
        choices:
          - qcow2
          - raw
      clone:
        description:
          - Name of a volume of the same pool, such as a golden image, that the new volume begins as a copy of. The pool
            must have the room that this image takes.
          - A volume that exists already is left as it is.
        type: str
      backing:
        description:
          - Name of a volume of the same pool, such as a golden image, that the new V(qcow2) volume lies over, so that
            it takes only what differs. The pool must be one of files.
          - A volume that exists already is left as it is.
        type: str
      target:
        description: Name in the guest's order of disks, such as V(vda). The bus follows from it if it is not given.
        type: str
      bus:
        description: How the guest sees the disk. A new one is V(virtio) if it is not given.
        type: str
        choices:
          - virtio
          - scsi
          - sata
          - ide
          - usb
      cache:
        description: How QEMU caches it.
        type: str
        choices:
          - default
          - none
          - writethrough
          - writeback
          - directsync
          - unsafe
      io:
        description: How QEMU reads and writes.
        type: str
        choices:
          - native
          - threads
          - io_uring
      discard:
        description: What becomes of blocks that the guest frees.
        type: str
        choices:
          - ignore
          - unmap
      serial:
        description: Serial number that the guest sees.
        type: str
      limits:
        description: Limits of its traffic. 0 is no limit.
        type: dict
        suboptions:
          total_bytes_sec:
            description: Bytes a second.
            type: int
          read_bytes_sec:
            description: Bytes read a second.
            type: int
          write_bytes_sec:
            description: Bytes written a second.
            type: int
          total_iops_sec:
            description: Operations a second.
            type: int
          read_iops_sec:
            description: Reads a second.
            type: int
          write_iops_sec:
            description: Writes a second.
            type: int
  cdrom:
    description:
      - The medium in the CD drive, as a file's name in C(/vm/iso) on the hypervisor, or an absolute path there.
      - Empty for an empty drive.
    type: str
  cloud_init:
    description:
      - What cloud-init in the guest is told, by an image of its data source NoCloud in a CD drive of its own.
      - The image is the volume C(VM-NAME-cloud-init.img), which only QEMU and root can read. It is removed with the
        virtual machine where O(remove_disks=owned), and kept otherwise.
      - Without any of O(cloud_init.user_data), O(cloud_init.meta_data) and O(cloud_init.network_config), as in C({}),
        drive and volume are removed; a guest that runs keeps them until it is off.
      - A guest reads it while it boots, and most of it once only, for each C(instance-id).
    type: dict
    suboptions:
      user_data:
        description:
          - The user data, a text such as one that begins with C(#cloud-config).
          - It is a secret, and never shown in a result, a diff or a log. A diff says that it is set or has changed.
        type: str
      meta_data:
        description:
          - The meta data. If they don't have them, C(instance-id) is O(uuid), and C(local-hostname) follows from
            O(name).
        type: dict
      network_config:
        description: The network configuration, of cloud-init's version 1 or 2.
        type: dict
      pool:
        description: Storage pool of the volume. If not given, C(default).
        type: str
      bus:
        description:
          - How the guest sees the drive. If not given, a new one is on V(scsi), by VirtIO, for which the kernels of
            cloud images have a driver.
        type: str
        choices:
          - scsi
          - sata
          - ide
          - usb
  networks:
    description:
      - The network interfaces, all of them and in their order. One that the list has not is detached.
      - An interface without O(networks[].mac) has the address that derives from O(uuid) and its position.
    type: list
    elements: dict
    suboptions:
      network:
        description:
          - Name of a network of libvirt.
          - One of O(networks[].network), O(networks[].bridge), O(networks[].direct) and O(networks[].user) is required.
        type: str
      bridge:
        description: Name of a bridge of the hypervisor.
        type: str
      direct:
        description: Name of a network device of the hypervisor, which the guest shares (macvtap).
        type: str
      direct_mode:
        description: How it is shared. libvirt's own default is V(vepa).
        type: str
        choices:
          - bridge
          - vepa
          - private
          - passthrough
      user:
        description: Network behind QEMU's own translation of addresses.
        type: bool
        default: false
      mac:
        description: MAC address, in quotes, because YAML takes one of digits for a number.
        type: str
      model:
        description: How the guest sees the interface, such as V(e1000e). A new one is V(virtio) if it is not given.
        type: str
      filter:
        description: Name of a network filter of libvirt, such as V(clean-traffic).
        type: str
      link:
        description: Whether the guest sees the cable plugged.
        type: str
        choices:
          - up
          - down
      bandwidth:
        description: Limits of its traffic.
        type: dict
        suboptions:
          inbound:
            description: To the guest.
            type: dict
            suboptions:
              average:
                description: KiB a second. Required.
                type: int
              peak:
                description: KiB a second for a while.
                type: int
              burst:
                description: KiB that may go at the peak.
                type: int
          outbound:
            description: From the guest.
            type: dict
            suboptions:
              average:
                description: KiB a second. Required.
                type: int
              peak:
                description: KiB a second for a while.
                type: int
              burst:
                description: KiB that may go at the peak.
                type: int
  graphics:
    description: The graphical consoles, all of them, at most one of a type.
    type: list
    elements: dict
    suboptions:
      type:
        description: Protocol of the console.
        type: str
        choices:
          - vnc
          - spice
        default: vnc
      listen:
        description: Address of the hypervisor to listen on. libvirt's own default is C(127.0.0.1).
        type: str
      port:
        description: Port to listen on. For a new console, libvirt chooses one at each start if it is not given.
        type: int
      password:
        description:
          - Password of the console, for V(vnc) of at most 8 characters.
          - It is never shown in a result, a diff or a log.
        type: str
  video:
    description: The graphics card.
    type: dict
    suboptions:
      model:
        description: How the guest sees it. V(none) for no card.
        type: str
        required: true
        choices:
          - vga
          - virtio
          - qxl
          - cirrus
          - bochs
          - ramfb
          - none
      heads:
        description: Number of screens.
        type: int
      vram:
        description: Its memory, such as V(16MiB).
        type: str
  serials:
    description: The serial ports, all of them. The first is also the text console.
    type: list
    elements: dict
    suboptions:
      type:
        description: What is at the other end on the hypervisor. Of a new one that is V(pty) if it is not given.
        type: str
        choices:
          - pty
          - 'null'
          - file
          - unix
          - tcp
      path:
        description: The file, or the socket.
        type: str
      host:
        description: Address to listen on, for V(tcp).
        type: str
      port:
        description: Port to listen on, for V(tcp).
        type: int
  channels:
    description: The channels between guest and hypervisor, all of them.
    type: list
    elements: dict
    suboptions:
      name:
        description: Name in the guest. That of the guest agent is V(org.qemu.guest_agent.0).
        type: str
        required: true
      type:
        description: What is at the other end. Of a new one that is V(unix) if it is not given.
        type: str
        choices:
          - unix
          - spicevmc
          - pty
  watchdog:
    description: The watchdog.
    type: dict
    suboptions:
      model:
        description: How the guest sees it. V(none) for no watchdog.
        type: str
        required: true
        choices:
          - i6300esb
          - ib700
          - itco
          - diag288
          - none
      action:
        description: What happens to a guest that does not feed it.
        type: str
        choices:
          - reset
          - shutdown
          - poweroff
          - pause
          - none
          - dump
          - inject-nmi
  rng:
    description: The source of random numbers.
    type: dict
    suboptions:
      source:
        description: A device of the hypervisor such as V(/dev/urandom), V(builtin), or V(none) for none.
        type: str
        required: true
      rate_bytes:
        description: How many bytes the guest gets in a period.
        type: int
      rate_period:
        description: The period in milliseconds. libvirt's own default is 1000.
        type: int
  tpm:
    description:
      - The trusted platform module, emulated by swtpm on the hypervisor.
      - What it keeps is in a folder of the hypervisor from the first start on, and moves with a guest that runs. So a
        virtual machine that has it does not move while it is off.
    type: dict
    suboptions:
      model:
        description: How the guest sees it. V(none) for none.
        type: str
        required: true
        choices:
          - tpm-crb
          - tpm-tis
          - tpm-spapr
          - none
      version:
        description: Version of its specification.
        type: str
        choices:
          - '1.2'
          - '2.0'
  filesystems:
    description:
      - Folders of the hypervisor that the guest sees, all of them. V(virtiofs) needs O(memory_backing.access=shared).
      - They need the permission C(host_access).
    type: list
    elements: dict
    suboptions:
      driver:
        description: How it is shared. A new one is V(virtiofs) if it is not given.
        type: str
        choices:
          - virtiofs
          - 9p
      source:
        description: The folder.
        type: str
        required: true
      target:
        description: The tag by which the guest mounts it.
        type: str
        required: true
  host_devices:
    description:
      - Devices of the hypervisor that the guest takes over, all of them. One of the suboptions is required.
      - They need the permission C(host_access).
      - The collection's tests define them, and start no guest with them.
    type: list
    elements: dict
    suboptions:
      pci:
        description: Address of a PCI device, such as V(0000:01:00.0).
        type: str
      usb:
        description: Vendor and product of a USB device, such as V(046d:c52b).
        type: str
      mdev:
        description: UUID of a mediated device.
        type: str
"""
