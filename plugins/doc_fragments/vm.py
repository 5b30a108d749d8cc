# Copyright (c) 2026, Archipel maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of a virtual machine's options; plugins/module_utils/_spec.py has their argument spec."""

from __future__ import annotations

import textwrap

from ansible_collections.archipel.platform.plugins.doc_fragments._vm_definition import SYSTEM
from ansible_collections.archipel.platform.plugins.doc_fragments._vm_devices import DEVICES

# Options of each element of a list.
RELATIONS = """
  depends_on:
    description:
      - Names of others of the declared virtual machines, which come first. This one is made, moved, started or changed
        once they are as they are declared, and not at all if one of them fails.
      - To be running is to be as declared as soon as the guest runs, unless the other one says more with
        O(vms[].wait_for) or O(vms[].start_delay).
      - Virtual machines that are to be stopped or removed go in the opposite order.
    type: list
    elements: str
  boot_group:
    description:
      - Virtual machines of a lower number come first, as with O(vms[].depends_on), whether they fail or not.
    type: int
    default: 0
""".lstrip("\n")


def as_list(documentation: str) -> str:
    """The options in ``documentation`` as those of each element of a list called ``vms``."""
    options = documentation.split("options:\n", 1)[1].replace("O(", "O(vms[].")
    return """
options:
  vms:
    description:
      - The virtual machines, in any order. Each is found wherever it is.
      - One of O(vms), O(vms_dir) and O(selector) is required.
    type: list
    elements: dict
    suboptions:
""" + textwrap.indent(RELATIONS + options, "    ")


class ModuleDocFragment:
    """Extend with C(archipel.platform.vm), or C(archipel.platform.vm.list) for a list of them called C(vms)."""

    # Annotated, because ansible-test reads only whole texts, and stumbles over one in parts.
    DOCUMENTATION: str = (
        r"""
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
      - V(saved) is off, with its memory in a file that the next start goes on from. Only a guest that runs can be
        saved.
      - V(restarted) shuts down, if it is not off, and starts, on every run.
      - V(stopped) asks the guest to shut down, and fails where it has not after O(shutdown_timeout), unless O(force).
      - V(absent) is not defined. It fails on a virtual machine that is active, unless O(force). Its disks are kept,
        unless O(remove_disks) says otherwise.
    type: str
    choices:
      - present
      - running
      - stopped
      - paused
      - saved
      - restarted
      - absent
    default: present
  hypervisor:
    description:
      - Where the virtual machine is to be, by the name of the hypervisor's XMPP account, such as V(hv1).
      - One that is elsewhere moves, live if it is running or paused. Declared V(stopped), it is stopped first.
      - A new one needs it, unless the platform has one hypervisor only.
      - Before anything moves, and in check mode, both hypervisors are asked whether it can - processor, free memory,
        networks, storage, media, devices, the way from the one to the other - and all reasons against it are told.
      - What else is declared of one that moves is looked at before it moves, by the hypervisor where it is, and what
        that refuses keeps it there. So what the declaration names must be there too; what is only on the hypervisor to
        which it moves is declared when it has moved.
      - How far a live migration is, or a copy of a disk, is printed while the task runs, if it runs on the controller
        itself and not in the background or with C(no_log).
    type: str
  assume_lost:
    description:
      - Hypervisors that are lost together with what was on them, by the names of their XMPP accounts.
      - A virtual machine that is found nowhere while a hypervisor is silent may be there. So it is not made, unless all
        that are silent are named here. Whoever names one answers for it that none of its virtual machines runs any
        more; two running copies destroy each other's disks.
      - A hypervisor that answers is asked, whether it is named here or not.
      - The account of a virtual machine is evidence that it exists. Where no hypervisor is silent, one that is found
        nowhere and has an account is not made. Where it was on one that is named here, it is made, with a warning that
        names the account - its password is lost too, so remove it with M(archipel.platform.archipel_user), and the
        agent makes it anew. Until then the new virtual machine is offline on XMPP, and cannot move.
      - Whether there is an account is told by its vCard, which its agent has published and the XMPP server removes with
        it.
    type: list
    elements: str
  migration:
    description:
      - How a virtual machine moves that is active. One that is off moves its definition only, so it does not move where
        libvirt keeps more than that of it - see O(firmware), O(tpm).
      - What is not given is libvirt's choice.
    type: dict
    suboptions:
      bandwidth:
        description: The most that is sent in a second, such as V(100MiB), a whole number of MiB.
        type: str
      downtime:
        description: The longest that the guest may stand still at the end, in milliseconds.
        type: int
      timeout:
        description:
          - Seconds after which O(migration.timeout_action) is done; less than O(wait_timeout), at which a migration is
            given up in any case, unless it has gone over to post-copy.
        type: float
      timeout_action:
        description:
          - V(abort) gives up; the guest runs on where it is.
          - V(pause) has the guest stand still until it has moved, so that nothing is left to send again.
          - V(postcopy) has the guest go on at the target at once, and sends what is missing as it is needed. There is
            no way back from it, and the guest is lost if the network fails then. The kernel at the target must let
            QEMU do so (C(vm.unprivileged_userfaultfd)).
        type: str
        choices:
          - abort
          - pause
          - postcopy
        default: abort
      auto_converge:
        description: Whether to slow down a guest that changes its memory faster than it can be sent.
        type: bool
        default: false
      compression:
        description:
          - Compresses memory on its way. V(xbzrle) and V(mt) work on one connection; V(zlib) and V(zstd) need
            O(migration.parallel_connections), and libvirt 9.1 or newer.
        type: str
        choices:
          - xbzrle
          - mt
          - zlib
          - zstd
      parallel_connections:
        description: Over how many connections memory is sent.
        type: int
      copy_storage:
        description:
          - Whether to copy the disks that the target has no file of. A storage pool there must have the same folder.
          - Only files that the guest alone writes to are copied. The files at the source stay.
          - A virtual machine that is off does not copy its disks.
        type: bool
        default: false
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
  protected:
    description:
      - Whether V(absent) and V(stopped) are refused.
      - It is kept with the virtual machine until it is declared otherwise.
    type: bool
  remove_disks:
    description:
      - Which disks go with a virtual machine that is V(absent).
      - V(owned) are the volumes that its own declarations created, unless another virtual machine uses them, or another
        volume lies over them. Hypervisors may share a storage, so this counts on all of them, by the paths of files.
        While one is silent, the virtual machine is not removed, unless O(assume_lost) names it.
    type: str
    choices:
      - none
      - owned
    default: none
  apply:
    description:
      - What becomes of changes of a running virtual machine.
      - V(auto) gives the guest at once what it can take while it runs; the rest waits for its next start.
      - V(live) fails, before anything changes, where the guest cannot take all of it while it runs.
      - V(next_boot) changes the definition only.
    type: str
    choices:
      - auto
      - live
      - next_boot
    default: auto
  allow_restart:
    description: Whether to restart a running guest that cannot take a change otherwise.
    type: bool
    default: false
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
    description: Seconds to wait for a state, for what O(wait_for) says, or for a migration.
    type: float
    default: 120
  wait_for:
    description:
      - How far the guest of a virtual machine that is V(running) or V(restarted) has come up before the task goes on,
        and others that depend on it.
      - V(state) looks no further than that it runs.
      - V(guest_agent) is the guest agent connected. It needs a channel V(org.qemu.guest_agent.0) in O(channels).
      - V(address) is any address that the guest agent tells, or libvirt's DHCP server has leased since the start. It
        needs that channel, or an interface on one of libvirt's networks. Leases are known only on the hypervisor where
        they were given, so a guest that moves needs the channel.
      - It fails after O(wait_timeout), and where what it needs is not declared, before anything changes.
      - A virtual machine that runs already is waited for where it has not come so far; whether a lease is from before
        its start is not known then. To wait is no change. Nothing is waited for in check mode, or without O(wait).
    type: str
    choices:
      - state
      - guest_agent
      - address
    default: state
  start_delay:
    description:
      - Seconds that pass after a start, and after what O(wait_for) waits for, before the task goes on, and others that
        depend on it.
      - Nothing passes where it runs already, or without O(wait).
    type: float
    default: 0
  xml:
    description:
      - Domain XML of libvirt, whole or in part, for what has no option here. The other options are laid over it.
      - See U(https://libvirt.org/formatdomain.html).
      - It may hold passwords, so Ansible shows it nowhere. What it changes is in the diff, without passwords and
        without the values below C(qemu:commandline), of C(fwcfg) entries, OEM strings and cookies.
    type: str
"""
        + SYSTEM
        + DEVICES
    )

    LIST: str = as_list(DOCUMENTATION)
