# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Domain XML as trees: read safely, written, compared, and told apart device by device.

Format: https://libvirt.org/formatdomain.html
"""

from __future__ import annotations

import copy
import re
import typing as t
from collections import Counter, defaultdict

from lxml import etree

from archipel_protocol.errors import MalformedRequest

Element = t.Any  # lxml ships no types

# The largest definitions met (hundreds of devices) have 200,000 characters.
MAX_CHARACTERS = 1024 * 1024
QEMU_NAMESPACE = "http://libvirt.org/schemas/domain/qemu/1.0"
SECRET_SET = "(set)"
SECRET_CHANGED = "(changed)"
# Children of <domain/> of which there may be several.
_REPEATED = frozenset(("seclabel", "sysinfo"))
# (tag, attribute) of values that only VIR_DOMAIN_XML_SECURE shows, or that QEMU is handed as they are.
_HANDED_ON = frozenset(((f"{{{QEMU_NAMESPACE}}}arg", "value"), (f"{{{QEMU_NAMESPACE}}}env", "value")))
_SECRETS = _HANDED_ON | {("graphics", "passwd")}
# Elements whose text is a secret: of a web server, and of a container's environment.
_SECRET_TEXTS = frozenset(("cookie", "initenv"))
# Shorter values are found in messages by chance.
_SHORTEST_SECRET = 4
# Archipel 0.6 wrote the password of a machine's account into its <description>.
_ACCOUNT = re.compile(r"(?i)([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}@[^\s:]+::::)\S+")
# Devices that one of their attributes names.
_NAMED_BY = {"controller": "index", "graphics": "type", "shmem": "name", "audio": "id"}
# Binary units of libvirt's scaled integers, as powers of two (formatdomain.html#memory-allocation).
_BINARY = {"": 10, "k": 10, "m": 20, "g": 30, "t": 40, "p": 50, "e": 60}
_DECIMAL = {"kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12, "pb": 10**15, "eb": 10**18}


class Change(t.NamedTuple):
    """One difference of two definitions. A side is None where the thing does not exist there; secrets are masked."""

    path: str  # for example devices/disk[vda]/driver/@cache
    before: str | None
    after: str | None


def parse(text: str, what: str = "the domain XML") -> Element:
    """The root element of ``text`` without comments and blanks between elements; raises MalformedRequest.

    There is no way out of the text: no document type, no entity, no network.
    """
    if len(text) > MAX_CHARACTERS:
        raise MalformedRequest(f"{what} has {len(text)} characters; at most {MAX_CHARACTERS} are taken")
    parser = etree.XMLParser(
        encoding="utf-8",
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        remove_blank_text=True,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        root = etree.fromstring(text.encode("utf-8"), parser)
    except (etree.XMLSyntaxError, UnicodeEncodeError) as exc:
        raise MalformedRequest(f"{what} is not well-formed: {exc}") from None
    if root.getroottree().docinfo.internalDTD is not None:
        raise MalformedRequest(f"{what} has a document type, which is not taken")
    return root


def parse_domain(text: str, what: str = "the domain XML") -> Element:
    """The <domain/> in ``text``; raises MalformedRequest."""
    root = parse(text, what)
    if root.tag != "domain":
        raise MalformedRequest(f"{what} must be a <domain/>, not <{root.tag}/>")
    count = Counter(child.tag for child in root)
    for tag in set(count) - _REPEATED:
        # libvirt would read some of them as one and ignore others.
        if count[tag] > 1:
            raise MalformedRequest(f"{what} has <{tag}> more than once")
    return root


def serialise(element: Element) -> str:
    """The text of an element."""
    return etree.tostring(element, encoding="unicode")


def lines(element: Element) -> list[str]:
    """The text of an element for people, an element a line."""
    return str(etree.tostring(element, encoding="unicode", pretty_print=True)).splitlines()


def equal(first: Element, second: Element) -> bool:
    """Whether two trees say the same in the same order."""
    # Most that is compared is the same to the letter. Of what is not, the first difference is enough.
    if serialise(first) == serialise(second):
        return True
    own = (first.tag, len(first), first.text or "", first.tail or "", dict(first.attrib))
    if own != (second.tag, len(second), second.text or "", second.tail or "", dict(second.attrib)):
        return False
    return all(map(equal, first, second))


def equal_devices(first: Element, second: Element) -> bool:
    """Whether the devices of two domains are the same, as far as their text tells."""
    containers = first.find("devices"), second.find("devices")
    return None not in containers and serialise(containers[0]) == serialise(containers[1])


def without_secrets(element: Element) -> Element:
    """A copy of ``element`` in which every secret reads "(set)"."""
    clean = copy.deepcopy(element)
    # What is secret depends on what is around, which the copy has lost.
    for found, shown in zip(element.iter(), clean.iter()):
        _mask(found, shown)
        if found.tag == "description":
            shown.text = without_password(found.text or "")
    return clean


def shown(before: Element, after: Element) -> tuple[Element, Element]:
    """Copies without secrets of two definitions; a secret that becomes another one reads "(changed)" in the second."""
    copies = without_secrets(before), without_secrets(after)
    _mark_changed(before, after, copies[1])
    return copies


def concealed(message: str, *domains: Element) -> str:
    """``message`` without the secrets of these definitions that QEMU is handed: it repeats what it does not take."""
    values = set()
    for domain in domains:
        for element in domain.iter():
            whole = [(element.text or "").strip()] if _is_secret(element) else []
            whole += [element.get(name, "") for tag, name in _HANDED_ON if tag == element.tag]
            for value in whole:
                # It may repeat one of a list, or what stands behind a name.
                values.update((value, *value.split(","), *(part.rpartition("=")[2] for part in value.split(","))))
    # The name of an option is none.
    secrets = {value for value in values if len(value) >= _SHORTEST_SECRET and not value.startswith("-")}
    for secret in sorted(secrets, key=len, reverse=True):
        message = message.replace(secret, SECRET_SET)
    return message


def _is_secret(element: Element) -> bool:
    """Whether an element's text is a secret, as that of what the firmware or OEM strings tell the guest may be."""
    around = element.getparent()
    if element.tag == "entry" and around is not None:
        return around.tag == "oemStrings" or (around.tag == "sysinfo" and around.get("type") == "fwcfg")
    return element.tag in _SECRET_TEXTS


def _mask(element: Element, copied: Element, old: Element | None = None) -> None:
    """Mask the secrets of ``element`` in its copy: those that ``old`` has otherwise, or all where there is no old."""
    text = SECRET_SET if old is None else SECRET_CHANGED
    for tag, name in _SECRETS:
        if tag == element.tag and element.get(name) is not None:
            if old is None or (element.get(name) and old.get(name) not in (None, "", element.get(name))):
                copied.set(name, text)
    if _is_secret(element) and element.text:
        if old is None or old.text not in (None, "", element.text):
            copied.text = text


def _mark_changed(before: Element, after: Element, copied: Element) -> None:
    _mask(after, copied, before)
    olds = dict(_labelled(before))
    for (label, child), own in zip(_labelled(after), copied):
        if label in olds:
            _mark_changed(olds[label], child, own)


def without_password(description: str) -> str:
    """A description that may be shown: what Archipel 0.6 wrote there reads "(set)"."""
    return _ACCOUNT.sub(rf"\g<1>{SECRET_SET}", description)


def text_of(element: Element, path: str, default: str = "") -> str:
    """The text at ``path``, stripped."""
    found = element.find(path) if "/" in path else child_of(element, path)
    return ((None if found is None else found.text) or default).strip()


def attribute_of(element: Element, path: str, name: str, default: str = "") -> str:
    """An attribute of the first element at ``path``."""
    found = element.find(path) if "/" in path else child_of(element, path)
    return default if found is None else found.get(name, default)


def child_of(element: Element, tag: str) -> Element | None:
    """The first child with this tag, in a fifth of the time of find(), which reads paths."""
    return next(element.iterchildren(tag), None)


def devices_of(domain: Element) -> list[Element]:
    """The device elements of a domain."""
    devices = child_of(domain, "devices")
    return [] if devices is None else list(devices)


def kibibytes(element: Element) -> int:
    """The size in a <memory/> or <currentMemory/>, in KiB rounded up as libvirt does; raises MalformedRequest."""
    unit = element.get("unit", "KiB").lower()
    text = (element.text or "").strip()
    if not text.isdigit():
        raise MalformedRequest(f"<{element.tag}> must be a whole number, not '{text}'")
    number = int(text)
    if unit in ("b", "bytes"):
        size = number
    elif unit in _DECIMAL:
        size = number * _DECIMAL[unit]
    elif unit.removesuffix("ib") in _BINARY:
        size = number << _BINARY[unit.removesuffix("ib")]
    else:
        raise MalformedRequest(f"<{element.tag}> has the unknown unit '{element.get('unit')}'")
    return -(-size // 1024)


def device_keys(devices: t.Iterable[Element]) -> list[tuple[str, ...]]:
    """A key for each device that names the same device in another definition of the same machine.

    Keys are unique within one definition: what has no name of its own is numbered within its kind.
    """
    seen: defaultdict[tuple[str, ...], int] = defaultdict(int)
    keys = []
    for device in devices:
        kind = _kind(device)
        named = _own_name(device)
        if named is None:
            key = (*kind, str(seen[kind]))
            seen[kind] += 1
        else:
            key = (*kind, named)
            if seen[key]:
                key = (*key, f"#{seen[key] + 1}")
            seen[(*kind, named)] += 1
        keys.append(key)
    return keys


def key_label(key: tuple[str, ...]) -> str:
    """A device's key for people: ``disk[vda]``, ``controller[usb,0]``."""
    return f"{key[0]}[{','.join(key[1:])}]"


def _kind(device: Element) -> tuple[str, ...]:
    """What the devices of one definition are numbered within."""
    if device.tag == "controller":
        model = device.get("model", "")
        # One USB 2 host is four controllers of the same index (formatdomain.html#controllers).
        companion = (model,) if model.startswith("ich9-") else ()
        return ("controller", device.get("type", ""), *companion)
    if device.tag == "input":
        return ("input", device.get("type", ""), *([device.get("bus")] if device.get("bus") else []))
    if device.tag == "channel":
        return ("channel", attribute_of(device, "target", "type"))
    if device.tag == "hostdev":
        return ("hostdev", device.get("type", ""))
    return (str(device.tag),)


def _own_name(device: Element) -> str | None:
    """What names a device within its kind; None where only its position does."""
    tag = device.tag
    if tag == "disk":
        return attribute_of(device, "target", "dev") or None
    if tag == "interface":
        return attribute_of(device, "mac", "address").lower() or None
    if tag == "channel":
        return attribute_of(device, "target", "name") or attribute_of(device, "target", "port") or None
    if tag == "hostdev":
        return _host_device(device)
    if tag == "filesystem":
        return attribute_of(device, "target", "dir") or None
    if tag in ("serial", "parallel", "console"):
        return attribute_of(device, "target", "port") or None
    attribute = _NAMED_BY.get(tag)
    return None if attribute is None else device.get(attribute)


def _host_device(device: Element) -> str | None:
    """The address of a device of the host, with its numbers in one form."""
    source = device.find("source")
    if source is None:
        return None
    parts = []
    for element in source.iter():
        parts += [f"{name}={_number(value)}" for name, value in sorted(element.attrib.items())]
    return " ".join(parts)


def _number(text: str) -> str:
    if re.fullmatch(r"0x[0-9a-fA-F]+|[0-9]+", text):
        return str(int(text, 16 if text.startswith("0x") else 10))
    return text


def changes(before: Element, after: Element) -> list[Change]:
    """Where two definitions differ, most outward first; secrets are masked."""
    return list(each_change(before, after))


def each_change(before: Element, after: Element) -> t.Iterator[Change]:
    """The same one by one, for who may not want to know of all."""
    return _changes("", before, after)


def _changes(path: str, before: Element, after: Element) -> t.Iterator[Change]:
    prefix = path + "/" if path else ""
    for name in sorted(set(before.attrib) | set(after.attrib)):
        old, new = before.get(name), after.get(name)
        if old != new:
            secret = (after.tag, name) in _SECRETS
            change = Change(f"{prefix}@{name}", old, new)
            yield _masked(change) if secret else change
    old, new = (before.text or "").strip(), (after.text or "").strip()
    if old != new and (_is_secret(before) or _is_secret(after)):
        yield _masked(Change(path, old or None, new or None))
    elif old != new:
        yield Change(path, *((old, new) if after.tag != "description" else map(without_password, (old, new))))
    olds, news = dict(_labelled(before)), dict(_labelled(after))
    for label in [*olds, *(label for label in news if label not in olds)]:
        if label not in news:
            yield Change(prefix + label, serialise(without_secrets(olds[label])), None)
        elif label not in olds:
            yield Change(prefix + label, None, serialise(without_secrets(news[label])))
        elif serialise(olds[label]) != serialise(news[label]):
            # Most of two definitions is the same, and to see that is quicker than to look at each element.
            yield from _changes(prefix + label, olds[label], news[label])


def _masked(change: Change) -> Change:
    if change.before is not None and change.after is not None:
        return Change(change.path, SECRET_SET, SECRET_CHANGED)
    return Change(change.path, change.before and SECRET_SET, change.after and SECRET_SET)


def _labelled(element: Element) -> list[tuple[str, Element]]:
    """The children of ``element`` with labels that are unique among them."""
    children = list(element)
    if element.tag == "devices":
        return [(key_label(key), child) for key, child in zip(device_keys(children), children)]
    tags = Counter(child.tag for child in children)
    labels = []
    seen: defaultdict[str, int] = defaultdict(int)
    for child in children:
        tag = child.tag
        name = tag.rpartition("}")[2]
        if tags[tag] > 1:
            mark = child.get("name") or child.get("id") or str(seen[tag])
            name = f"{name}[{mark}]"
            seen[tag] += 1
        labels.append((name, child))
    return labels
