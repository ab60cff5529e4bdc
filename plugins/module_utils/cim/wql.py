# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""WQL texts, built with one quoting function (wire 2.4)."""
from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeAlias

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.types import Instance, Reference

Literal: TypeAlias = "str | int | bool"
_NAME = re.compile(r"[A-Za-z_]\w{0,254}\Z")


@dataclass(frozen=True)
class Wql:
    """A query: where it goes, its text, and what a client-side filter needs when the host refuses filters (wire 10, C1)."""

    namespace: str
    text: str
    class_name: str
    where: Mapping[str, Literal] = field(default_factory=dict)
    columns: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "where", MappingProxyType(dict(self.where)))

    def matches(self, instance: Instance) -> bool:
        """The conditions, checked here. Text compares without case, as in WQL; null matches nothing."""
        return all(_equal(instance, name, wanted) for name, wanted in self.where.items())


def project(instance: Instance, columns: Sequence[str] | None) -> Instance:
    """Only the columns of a query; everything when there are none."""
    if columns is None:
        return instance
    wanted = {column.lower() for column in columns}
    return Instance(instance.namespace, instance.class_name,
                    {name: value for name, value in instance.values.items() if name.lower() in wanted})


def _equal(instance: Instance, name: str, wanted: Literal) -> bool:
    if isinstance(wanted, bool):
        return instance.boolean(name) is wanted
    if isinstance(wanted, int):
        return instance.integer(name) == wanted
    value = instance.text(name)
    return value is not None and value.casefold() == wanted.casefold()


def quote(value: Literal) -> str:
    """A literal: numbers and booleans as they are, text in single quotes with backslashes and quotes escaped."""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, int):
        return str(value)
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _name(name: str) -> str:
    if not _NAME.match(name):
        raise ValueError(f"not a CIM name: {name!r}")
    return name


def select(namespace: str, class_name: str, where: Mapping[str, Literal] | None = None,
           columns: Sequence[str] | None = None) -> Wql:
    """``SELECT`` with equality conditions joined by AND; ``columns`` None means ``*``, which keeps the instances typed (wire 2.5)."""
    conditions = " AND ".join(f"{_name(name)} = {quote(value)}" for name, value in (where or {}).items())
    listed = "*" if columns is None else ", ".join(_name(column) for column in columns)
    text = f"SELECT {listed} FROM {_name(class_name)}" + (f" WHERE {conditions}" if conditions else "")  # noqa: S608  # quoted above
    return Wql(namespace, text, class_name, dict(where or {}), None if columns is None else tuple(columns))


def associators_of(reference: Reference, *, association: str, result: str, role: str | None = None,
                   result_role: str | None = None) -> Wql:
    """``ASSOCIATORS OF`` one instance. Without filters :mod:`.associations` does the same."""
    keys = ",".join(f"{_name(name)}={quote(value)}" for name, value in reference.keys.items())
    parts = [f"ASSOCIATORS OF {{{_name(reference.class_name)}.{keys}}} WHERE AssocClass={_name(association)}",
             f"ResultClass={_name(result)}"]
    if role is not None:
        parts.append(f"Role={_name(role)}")
    if result_role is not None:
        parts.append(f"ResultRole={_name(result_role)}")
    return Wql(reference.namespace, " ".join(parts), result)
