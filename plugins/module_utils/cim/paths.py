# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""WMI object paths, which stand inside string properties (wire 4)."""
from __future__ import annotations

import re

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.types import Reference

_HEAD = re.compile(
    r"(?:[\\/]{2}[^\\/:]+[\\/])?(?P<namespace>[A-Za-z_][\w\\/-]*):(?P<class>[A-Za-z_]\w*)(?:(?P<keys>\..+)|=@)?\Z", re.DOTALL)
_KEY = re.compile(r"""[.,]\s*([A-Za-z_]\w*)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|([^,"'\s]+))""", re.DOTALL)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


def quote(value: str) -> str:
    """A key's value between double quotes: backslashes and quotes doubled with a backslash."""
    doubled = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{doubled}"'


def format_path(reference: Reference, host: str | None = None) -> str:
    """``root/virtualization/v2:Class.Key="value"``; hosts accept it with and without themselves in front (wire 4)."""
    keys = ",".join(f"{name}={quote(value)}" for name, value in sorted(reference.keys.items(), key=lambda item: item[0].lower()))
    path = f"{reference.namespace}:{reference.class_name}" + (f".{keys}" if keys else "=@")
    return path if host is None else f"\\\\{host}\\{path.replace('/', chr(92), reference.namespace.count('/'))}"


def parse_path(text: str) -> Reference:
    """The reference a path names. Single-quoted values are taken literally (wire 10, C7). Raises ValueError."""
    found = _HEAD.match(text.strip())
    if found is None:
        raise ValueError(f"not an object path: {text[:120]!r}")
    keys: dict[str, str] = {}
    rest = found.group("keys") or ""
    at = 0
    while at < len(rest):
        key = _KEY.match(rest, at)
        if key is None or rest[at] != ("," if keys else "."):
            raise ValueError(f"not an object path: {text[:120]!r}")
        name, double, single, bare = key.groups()
        keys[name] = _ESCAPE.sub(r"\1", double) if double is not None else single if single is not None else bare
        at = key.end()
    return Reference(found.group("namespace").replace("\\", "/").rstrip("/"), found.group("class"), keys)
