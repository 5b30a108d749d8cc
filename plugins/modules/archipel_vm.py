#!/usr/bin/python
# Copyright (c) 2026, Archipel maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: archipel_vm
short_description: Declare a virtual machine
version_added: 1.0.0
description:
  - Makes one declared virtual machine true, wherever in the platform it is, or is to be.
  - Only what is stated is enforced. What is not stated is left as it is.
  - It asks the agents on the hypervisors over XMPP, and needs no access to libvirt.
  - The difference is told in the terms of the options, and with C(-vvv) in libvirt's XML too, without any password.
  - What libvirt does not keep of a declaration, such as a misspelt element in O(xml), is told in a warning.
  - For many virtual machines, M(archipel.platform.archipel_fleet) does the same in one task.
author:
  - Archipel maintainers (@archipel)
extends_documentation_fragment:
  - archipel.platform.connection
  - archipel.platform.vm
  - archipel.platform.attributes
  - archipel.platform.attributes.declarative
seealso:
  - module: archipel.platform.archipel_vm_info
  - module: archipel.platform.archipel_fleet
  - module: archipel.platform.archipel_import
"""

EXAMPLES = r"""
- name: A web server runs on hv1
  archipel.platform.archipel_vm:
    name: web
    hypervisor: hv1
    state: running
    memory: 2GiB
    vcpus: 2
    disks:
      - name: root
        size: 20GiB
    cdrom: debian-12.iso
    networks:
      - network: default
    graphics:
      - type: vnc
        password: "{{ web_console_password }}"
    autostart: true

- name: A clone of a cloud image greets its administrator
  archipel.platform.archipel_vm:
    name: app
    hypervisor: hv1
    state: running
    memory: 2GiB
    disks:
      - name: root
        clone: debian-12-genericcloud.qcow2
        size: 20GiB
    networks:
      - network: default
    channels:
      - name: org.qemu.guest_agent.0
    cloud_init:
      user_data: |
        #cloud-config
        packages: [qemu-guest-agent]
        users:
          - name: admin
            ssh_authorized_keys: ["{{ lookup('ansible.builtin.file', '~/.ssh/id_ed25519.pub') }}"]
            sudo: ALL=(ALL) NOPASSWD:ALL

- name: It moves to hv2, live
  archipel.platform.archipel_vm:
    name: web
    hypervisor: hv2

- name: It moves within ten minutes, or stands still until it has moved
  archipel.platform.archipel_vm:
    name: web
    hypervisor: hv1
    wait_timeout: 1200
    migration:
      bandwidth: 400MiB
      timeout: 600
      timeout_action: pause

- name: It is made anew, because hv2 has burnt down with everything on it
  archipel.platform.archipel_vm:
    name: web
    hypervisor: hv1
    state: running
    memory: 2GiB
    assume_lost:
      - hv2

- name: It is off, whether its guest wants to or not
  archipel.platform.archipel_vm:
    name: web
    state: stopped
    shutdown_timeout: 120
    force: true

- name: It has a watchdog, for which there is no option
  archipel.platform.archipel_vm:
    name: web
    xml: <domain><devices><watchdog model="i6300esb" action="reset"/></devices></domain>

- name: It is gone, its disks are kept
  archipel.platform.archipel_vm:
    name: web
    state: absent
"""

RETURN = r"""
vm:
  description: The virtual machine after the task; in check mode, before it. Empty if it does not exist.
  returned: success
  type: dict
  contains:
    name:
      description: Name.
      type: str
      sample: web
    uuid:
      description: UUID.
      type: str
      sample: 0f6a1c42-3a53-5c1c-bd0e-5c0f6e4f8d0a
    jid:
      description: The XMPP address of the virtual machine, with the hypervisor as its resource.
      type: str
      sample: 0f6a1c42-3a53-5c1c-bd0e-5c0f6e4f8d0a@example.com/hv1
    hypervisor:
      description: Where it is.
      type: str
      sample: hv1
    state:
      description: Its state, such as V(running), V(stopped), V(paused), V(crashed).
      type: str
      sample: running
    managed:
      description: Whether it is an entity of the platform.
      type: bool
      sample: true
    persistent:
      description: Whether libvirt keeps its definition while it is off.
      type: bool
      sample: true
    autostart:
      description: Whether it starts with its hypervisor.
      type: bool
      sample: true
    memory:
      description: Size of the memory in KiB.
      type: int
      sample: 2097152
    vcpus:
      description: Number of virtual processors.
      type: int
      sample: 2
    tags:
      description: Tags, sorted.
      type: list
      elements: str
      sample:
        - production
        - web
actions:
  description: What was done, or in check mode would be, in the order of doing.
  returned: success
  type: list
  elements: str
  sample:
    - create volume default/web-root.qcow2
    - define
    - start
restart_required:
  description: What a running virtual machine does not have until its next start. It is told on every run.
  returned: success
  type: list
  elements: str
  sample:
    - memory changes from 1GiB to 2GiB at the next start
applied_live:
  description: Those of RV(actions) that the running guest sees, or would see, without a restart.
  returned: success
  type: list
  elements: str
  sample:
    - attach disk[vdb]
"""

from ansible_collections.archipel.platform.plugins.module_utils import _arguments, _connection, _converge, _spec
from ansible_collections.archipel.platform.plugins.module_utils._agents import Agents
from ansible_collections.archipel.platform.plugins.module_utils._client import Client
from ansible_collections.archipel.platform.plugins.module_utils._progress import Progress
from ansible_collections.archipel.platform.plugins.module_utils.archipel_protocol.errors import ArchipelError


def main() -> None:
    module = _arguments.Module(
        _spec.problems,
        argument_spec={**_connection.argument_spec(), **_spec.argument_spec()},
        supports_check_mode=True,
    )
    manner = _converge.Manner(module.check_mode, progress=Progress.of(module), show_xml=module._verbosity >= 3)
    try:
        with Client(_connection.options(module.params)) as client:
            outcome = _converge.converge(Agents(client), [module.params], manner)[0]
        if outcome.warning:
            module.warn(outcome.warning)
        if outcome.error is not None:
            raise outcome.error
    except ArchipelError as exc:
        module.fail_json(msg=exc.message)
    module.exit_json(
        changed=outcome.changed,
        vm=outcome.vm or {},
        actions=list(outcome.actions),
        restart_required=list(outcome.restart_required),
        applied_live=list(outcome.applied_live),
        diff=outcome.diff,
    )


if __name__ == "__main__":
    main()
