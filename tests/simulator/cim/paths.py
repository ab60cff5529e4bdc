# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""WMI object paths as they stand in string properties and in WQL (wire 4)."""
from __future__ import annotations

import re
from typing import Final

from .errors import ProviderRefusal
from .model import Ref

INVALID_PARAMETER: Final = 32773

_HEAD = re.compile(r"(?:[\\/]{2}([^\\/:]+)[\\/])?([^:\\/]+(?:[\\/][^:\\/]+)*):(.*)\Z", re.DOTALL)
_CLASS = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?:([.=])(.*))?\Z", re.DOTALL)
_KEY = re.compile(
    r"""([A-Za-z_][A-Za-z0-9_]*)=(?:"((?:[^"\\]|\\["\\])*)"|'([^']*)'|([+-]?[0-9]+|TRUE|FALSE|true|false))(,|\Z)""", re.DOTALL)


class ObjectPathError(ProviderRefusal):
    """Text that a provider does not take as an object path; ``return_value`` is 32773 (wire 4)."""

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(INVALID_PARAMETER, f"{text[:200]!r} is no object path: {reason}")


def parse_object_path(text: str, *, namespace: str | None = None) -> Ref:
    r"""``\\HOST\root\virtualization\v2:Class.Key="a\\b",Other='c'`` as a reference.

    The host is optional and not looked at; ``/`` and ``\`` both separate. In double quotes a backslash must be doubled and a quote
    escaped; in single quotes everything is literal. ``namespace`` is used when the path has none (in WQL). Raises
    :class:`ObjectPathError`. ``Class=@`` (a singleton) gives a reference without keys.
    """
    head = _HEAD.match(text) if not _CLASS.match(text) else None
    if head is not None:
        found, rest = head[2].replace("\\", "/"), head[3]
    elif namespace is not None:
        found, rest = namespace, text
    else:
        raise ObjectPathError(text, "no namespace before the class")
    match = _CLASS.match(rest)
    if match is None:
        raise ObjectPathError(text, "no class name")
    class_name, separator, keys = match.groups()
    if separator == "=":
        if keys.strip() != "@":
            raise ObjectPathError(text, "a key without its name")
        return Ref(found, class_name)
    if separator is None:
        raise ObjectPathError(text, "no keys")
    return Ref(found, class_name, _parse_keys(text, keys))


def _parse_keys(text: str, source: str) -> dict[str, str]:
    keys: dict[str, str] = {}
    position, more = 0, True
    while more:
        match = _KEY.match(source, position)
        if match is None:
            raise ObjectPathError(text, "a key that is not quoted as it must be")
        name, double, single, bare, comma = match.groups()
        if name.lower() in (known.lower() for known in keys):
            raise ObjectPathError(text, f"the key {name} twice")
        if double is not None:
            keys[name] = _unescape(double)
        else:
            keys[name] = single if single is not None else bare
        position, more = match.end(), comma == ","
    return keys


def _unescape(quoted: str) -> str:
    return re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL)


def format_object_path(ref: Ref, host: str | None = None) -> str:
    r"""The form that Windows stores: ``\\HOST\root\virtualization\v2:Class.Key="…"``, keys in alphabetical order (wire 4)."""
    prefix = "" if host is None else f"\\\\{host}\\"
    namespace = ref.namespace.replace("/", "\\")
    return f"{prefix}{namespace}:{relative_path(ref)}"


def relative_path(ref: Ref) -> str:
    """``Class.Key="…"`` without host and namespace; ``Class=@`` without keys."""
    if not ref.keys:
        return f"{ref.class_name}=@"
    keys = ",".join(f"{name}={_quote(str(ref.keys[name]))}" for name in sorted(ref.keys, key=str.lower))
    return f"{ref.class_name}.{keys}"


def _quote(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
