# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Logs in from headless Chromium, with Strophe, at each URL given: browser.py CA_FILE JID URL... < password

Runs on the XMPP server, as root; the browser runs as nobody, in its sandbox, and trusts CA_FILE ("-": none) as one of a
person would, by its NSS database. Prints a line for each URL: what became of the login, a space, the URL.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

PAGE = """<!DOCTYPE html>
<script src="/usr/share/javascript/strophe/strophe.js"></script>
<script>
const login = %s;
const connection = new Strophe.Connection(login.url);
connection.connect(login.jid, login.password, (status) => {
  console.log("login " + Object.keys(Strophe.Status).find((name) => Strophe.Status[name] === status));
});
</script>
"""
# ERR_CERT_AUTHORITY_INVALID of Chromium's net_error_list.h
UNTRUSTED = "net_error -202"
LAST = {"CONNECTED", "CONNFAIL", "AUTHFAIL", "ERROR"}


def trust(home: Path, ca_file: str) -> None:
    """A certificate database like that of a person, with the authority in it, or with none."""
    database = home / ".pki" / "nssdb"
    database.mkdir(parents=True)
    certutil = ["certutil", "-d", f"sql:{database}"]
    subprocess.run([*certutil, "-N", "--empty-password"], check=True)
    if ca_file != "-":
        subprocess.run([*certutil, "-A", "-n", "archipel", "-t", "C,,", "-i", ca_file], check=True)
    subprocess.run(["chown", "-R", "nobody", home], check=True)


def outcome(home: Path, login: dict[str, str], seconds: float = 30) -> str:
    """The status of Strophe's that decides, "UNTRUSTED" for the server's certificate, or "TIMEOUT"."""
    page = home / "login.html"
    page.write_text(PAGE % json.dumps(login))
    command = ["chromium-headless-shell", "--disable-gpu", "--enable-logging=stderr", "--remote-debugging-port=0"]
    name = urlsplit(login["url"]).hostname
    command += ["--allow-file-access-from-files", f"--host-resolver-rules=MAP {name} 127.0.0.1", page.as_uri()]
    environment = {"HOME": str(home), "PATH": "/usr/bin:/bin"}
    browser = subprocess.Popen(command, user="nobody", env=environment, stderr=subprocess.PIPE, start_new_session=True)
    try:
        text, deadline = "", time.monotonic() + seconds
        while select.select([browser.stderr], [], [], max(0.0, deadline - time.monotonic()))[0]:
            data = browser.stderr.read1()
            if not data:
                break
            text += data.decode(errors="replace")
            if UNTRUSTED in text:  # before Strophe tries BOSH again and again
                return "UNTRUSTED"
            for status in re.findall(r'"login (\w+)"', text):
                if status in LAST:
                    return status
        return "TIMEOUT"
    finally:
        os.killpg(browser.pid, signal.SIGKILL)
        browser.wait()


def main(ca_file: str, jid: str, urls: list[str]) -> None:
    password = sys.stdin.read().strip()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        trust(home, ca_file)
        for url in urls:
            print(outcome(home, {"url": url, "jid": jid, "password": password}), url)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
