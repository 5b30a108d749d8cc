# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Declarations of virtual machines in files on the controller. They are data: no template in them is evaluated."""

from __future__ import annotations

import os
import typing as t

from ansible.errors import AnsibleError

SUFFIXES = (".yml", ".yaml", ".json")


def read(loader: t.Any, directory: str) -> tuple[list[tuple[str, t.Any]], list[str]]:
    """Each declaration with a label of where it stands, such as "db/main.yml[0]", and what could not be read.

    ``loader`` is Ansible's DataLoader, which knows the Vault's secrets.
    """
    found: list[tuple[str, t.Any]] = []
    problems: list[str] = []
    if not os.path.isdir(directory):
        return [], [f"vms_dir: there is no directory {directory}"]
    names, links = files(directory)
    problems += [
        f"{name}: is a link to a directory, and is not followed; have the directory itself here, or links to its files"
        for name in links
    ]
    if not names:
        problems.append(f"vms_dir: there is no file in {directory} whose name ends in {', '.join(SUFFIXES)}")
    for name in names:
        try:
            content = plain(loader.load_from_file(os.path.join(directory, name), cache="none"))
        except (AnsibleError, OSError, ValueError) as exc:
            # Ansible shows the line that it stumbled over, and that may hold a secret.
            problems.append("{}: cannot be read: {}".format(name, _reason(exc)))
            continue
        if isinstance(content, list):
            found += [(f"{name}[{index}]", one) for index, one in enumerate(content)]
        elif content is None:
            problems.append(f"{name}: is empty; it must hold a declaration, or a list of them")
        else:
            found.append((name, content))
    return found, problems


def files(directory: str) -> tuple[list[str], list[str]]:
    """The paths below ``directory`` of what is to be read, and of links to directories, both sorted.

    Such a link is not followed: it may lead in a circle. Nor is it passed over: what is behind it would count as not
    declared.
    """
    found, links = [], []
    for folder, folders, names in os.walk(directory):
        folders[:] = [name for name in folders if not name.startswith(".")]
        chosen = [name for name in names if name.endswith(SUFFIXES) and not name.startswith(".")]
        found += [os.path.relpath(os.path.join(folder, name), directory) for name in chosen]
        paths = [os.path.join(folder, name) for name in folders]
        links += [os.path.relpath(path, directory) for path in paths if os.path.islink(path)]
    return sorted(found), sorted(links)


def plain(value: t.Any) -> t.Any:
    """``value`` in JSON's types. A value that Vault encrypted is decrypted, a date is the text that it was."""
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)


def _reason(error: Exception) -> str:
    """The first line of what Ansible says, and where."""
    return str(getattr(error, "message", None) or error).strip().splitlines()[0]
