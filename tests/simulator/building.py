# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Dataclasses from plain data, as YAML and JSON hold it: every field may be written, unknown ones are refused by name."""
from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from datetime import datetime
from typing import Any, TypeVar

T = TypeVar("T")


class BuildError(ValueError):
    """The data says something that the dataclass has not; the message names the place."""


def build(kind: type[T], value: Any, where: str) -> T:
    """Make a ``kind`` (a dataclass or what its fields are made of) from plain data; ``where`` is for the message. Raises BuildError."""
    return typing.cast(T, _convert(kind, value, where))


def mapping(value: Any, where: str) -> dict[str, Any]:
    """The mapping that a value must be. Raises BuildError."""
    if not isinstance(value, dict):
        raise BuildError(f"{where}: must be a mapping")
    return value


def _convert(kind: Any, value: Any, where: str) -> Any:
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return _convert_union(typing.get_args(kind), value, where)
    if origin is typing.Literal:
        if value not in typing.get_args(kind):
            raise BuildError(f"{where}: must be one of {', '.join(map(str, typing.get_args(kind)))}")
        return value
    if origin in (tuple, frozenset):
        if not isinstance(value, list):
            raise BuildError(f"{where}: must be a list")
        return origin(_convert(typing.get_args(kind)[0], item, f"{where}[{number}]") for number, item in enumerate(value))
    if origin in (dict, Mapping):
        key_kind, value_kind = typing.get_args(kind)
        return {_convert(key_kind, key, where): _convert(value_kind, item, f"{where}.{key}")
                for key, item in mapping(value, where).items()}
    if isinstance(kind, type) and is_dataclass(kind):
        return _convert_dataclass(kind, value, where)
    return _convert_scalar(kind, value, where)


def _convert_union(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    return _convert(next(kind for kind in kinds if kind is not type(None)), value, where)


def _convert_dataclass(kind: type[Any], value: Any, where: str) -> Any:
    given = mapping(value, where)
    hints = typing.get_type_hints(kind)
    known = {field.name: field for field in fields(kind) if field.init}
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise BuildError(f"{where}: {kind.__name__} has no {', '.join(unknown)}")
    missing = sorted(name for name, field in known.items()
                     if name not in given and field.default is MISSING and field.default_factory is MISSING)
    if missing:
        raise BuildError(f"{where}: {', '.join(missing)} is missing")
    converted = {name: _convert(hints[name], item, f"{where}.{name}") for name, item in given.items()}
    try:
        return kind(**converted)
    except ValueError as error:
        raise BuildError(f"{where}: {error}") from error


def _convert_scalar(kind: Any, value: Any, where: str) -> Any:
    if kind is bytes and isinstance(value, str):
        return value.encode()
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is str and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)  # os_version: 2022
    if kind is int and isinstance(value, bool):
        raise BuildError(f"{where}: must be a number")
    if kind in (str, int, float, bool, bytes, datetime) and isinstance(value, kind):
        return value
    raise BuildError(f"{where}: must be of type {getattr(kind, '__name__', kind)}")
