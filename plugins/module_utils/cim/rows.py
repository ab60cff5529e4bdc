# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows instead of branches: one for each option that is a property of a class, and one engine that shows, compares and writes them.

A row knows how its option reads and writes; an option that was not given never appears in a comparison, so it is never touched.
"""
from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeAlias

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.types import Instance, PropertyValue
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError

OptionValue: TypeAlias = str | bool | int | None
_TIME_OF_DAY = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)\Z", re.ASCII)
_CIM_DAYLESS = re.compile(r"\d{8}(\d\d)(\d\d)\d\d\.")


@dataclass(frozen=True)
class Kind:
    """How a value of one type reads, writes, and looks when it is compared."""

    read: Callable[[Instance, str], OptionValue]
    write: Callable[[Any], PropertyValue] = lambda value: value
    normal: Callable[[Any], OptionValue] = lambda value: value


@dataclass(frozen=True)
class Row:
    """One option. ``since``: the first build whose class has the property; ``fixed``: what older hosts have instead of a choice."""

    option: str
    name: str
    kind: Kind
    since: int = 0
    fixed: OptionValue = None


@dataclass(frozen=True)
class Change:
    """One property that is not what it should be, in the option's own terms."""

    row: Row
    before: OptionValue
    after: OptionValue


def _time_of_day(instance: Instance, name: str) -> str | None:
    """``18:30``: a time of day is a date whose date part is zero, or an interval; both spellings are read (operations 7.2)."""
    value = instance.raw(name)
    if isinstance(value, timedelta):
        return f"{value.seconds // 3600:02d}:{value.seconds // 60 % 60:02d}"
    if value is None:
        return None
    found = _CIM_DAYLESS.match(value) if isinstance(value, str) else None
    if found is not None:
        return f"{found.group(1)}:{found.group(2)}"
    moment = instance.time(name)
    return None if moment is None else f"{moment:%H:%M}"


def parse_time_of_day(text: str) -> timedelta:
    """``6:00`` or ``18:30``. Raises ValueError."""
    found = _TIME_OF_DAY.match(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is not a time of day such as 18:30")
    return timedelta(hours=int(found.group(1)), minutes=int(found.group(2)))


def _normal_time(value: Any) -> str | None:
    if value is None:
        return None
    minutes = parse_time_of_day(str(value)).seconds // 60
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def thumbprint(value: Any) -> str | None:
    """A thumbprint as it is compared: hexadecimal digits alone, in upper case. Viewers of Windows add spaces and a direction mark."""
    digits = re.sub(r"[^0-9A-Fa-f]", "", str(value or "")).upper()
    return digits or None


def choice(names: Mapping[int, str]) -> Kind:
    """A number with words for its values; 0 is no choice unless it has a word."""
    numbers = {word: number for number, word in names.items()}

    def read(instance: Instance, name: str) -> OptionValue:
        number = instance.integer(name)
        if not number and number not in names:
            return None
        return names.get(number or 0, f"unknown_{number}")
    return Kind(read, lambda value: numbers[value])


TEXT = Kind(lambda instance, name: instance.text(name) or None)
NAME = Kind(lambda instance, name: instance.text(name) or None, normal=lambda value: str(value or "").casefold())
INTEGER = Kind(lambda instance, name: instance.integer(name))
BOOLEAN = Kind(lambda instance, name: instance.boolean(name))
TIME_OF_DAY = Kind(_time_of_day, parse_time_of_day, _normal_time)
THUMBPRINT = Kind(lambda instance, name: thumbprint(instance.text(name)), thumbprint, thumbprint)


def shown(rows: Sequence[Row], instance: Instance, build: int) -> dict[str, OptionValue]:
    """Every option as the host has it."""
    return {row.option: row.kind.read(instance, row.name) if build >= row.since else row.fixed for row in rows}


def given(rows: Sequence[Row], params: Mapping[str, Any]) -> dict[str, Any]:
    """The options that the task sets."""
    return {row.option: params[row.option] for row in rows if params.get(row.option) is not None}


def differences(rows: Sequence[Row], current: Mapping[str, OptionValue], wanted: Mapping[str, Any], build: int) -> tuple[Change, ...]:
    """What has to be written, in the order of the rows.

    Raises HypervError ``not_on_this_release`` for a choice that this release does not have, ``invalid_option`` for unreadable text.
    """
    found = []
    for row in rows:
        if row.option not in wanted:
            continue
        try:
            before, after = row.kind.normal(current.get(row.option)), row.kind.normal(wanted[row.option])
        except ValueError as error:
            raise HypervError(f"{row.option}: {error}.", error_code="invalid_option") from error
        if before == after:
            continue
        if build < row.since:
            raise HypervError(f"{row.option} cannot be chosen on this release of Windows: it is always {row.fixed}.",
                              error_code="not_on_this_release", hint=f"Leave {row.option} out, or set it to {row.fixed}.")
        found.append(Change(row, current.get(row.option), wanted[row.option]))
    return tuple(found)


def properties(changes: Sequence[Change]) -> dict[str, PropertyValue]:
    """The changes as properties of the class, ready for an embedded instance."""
    return {change.row.name: change.row.kind.write(change.after) for change in changes}


def after(current: Mapping[str, OptionValue], changes: Sequence[Change]) -> dict[str, Any]:
    """The options as they will be."""
    return {**current, **{change.row.option: change.after for change in changes}}
