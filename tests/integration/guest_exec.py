# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""guest_exec.py DOMAIN COMMAND: a shell command in a guest of this hypervisor, through QEMU's guest agent.

Its output is printed; the exit status is the command's.
"""

from __future__ import annotations

import base64
import json
import sys
import time

import libvirt
import libvirt_qemu

SECONDS = 20


def main() -> int:
    domain = libvirt.open("qemu:///system").lookupByName(sys.argv[1])

    def ask(execute, **arguments):
        request = json.dumps({"execute": execute, "arguments": arguments})
        return json.loads(libvirt_qemu.qemuAgentCommand(domain, request, SECONDS, 0))["return"]

    capture = {"capture-output": True}
    pid = ask("guest-exec", path="/bin/sh", arg=["-c", sys.argv[2]], **capture)["pid"]
    while True:
        status = ask("guest-exec-status", pid=pid)
        if status["exited"]:
            print(base64.b64decode(status.get("out-data", "")).decode(), end="")
            return status["exitcode"]
        time.sleep(1)


if __name__ == "__main__":
    sys.exit(main())
