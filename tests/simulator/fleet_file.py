# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Specs of hosts from YAML: every field of the dataclasses may be written, unknown ones are refused by name."""
from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import yaml

from simulator.fileserver import FileServerSpec
from simulator.spec import HostSpec

T = TypeVar("T")


class FleetError(ValueError):
    """A fleet file says something that no spec has; the message names the place."""


def load_fleet(path: Path) -> list[HostSpec]:
    """The hosts of a YAML file ``{defaults: {...}, hosts: [{name: HV1, ...}]}``; ``defaults`` are fields of every host.

    Raises FleetError.
    """
    document = _document(path)
    defaults = document.get("defaults") or {}
    if not isinstance(defaults, dict):
        raise FleetError("defaults: must be a mapping")
    return [build(HostSpec, {**defaults, **_mapping(entry, f"hosts[{number}]")}, f"hosts[{number}]")
            for number, entry in enumerate(document["hosts"])]


def load_file_servers(path: Path) -> list[FileServerSpec]:
    """The file servers of the same file, under ``file_servers``. Raises FleetError."""
    entries = _document(path).get("file_servers") or []
    return [build(FileServerSpec, entry, f"file_servers[{number}]") for number, entry in enumerate(entries)]


def _document(path: Path) -> dict[str, Any]:
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    known = {"defaults", "hosts", "file_servers"}
    if not isinstance(document, dict) or not isinstance(document.get("hosts"), list) or not set(document) <= known:
        raise FleetError("a fleet file holds 'hosts' (a list) and perhaps 'defaults' and 'file_servers'")
    return document


def build(kind: type[T], value: Any, where: str) -> T:
    """Make a ``kind`` (a dataclass or what its fields are made of) from plain YAML data; ``where`` is for the message."""
    return typing.cast(T, _convert(kind, value, where))


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise FleetError(f"{where}: must be a mapping")
    return value


def _convert(kind: Any, value: Any, where: str) -> Any:
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return _convert_union(typing.get_args(kind), value, where)
    if origin is typing.Literal:
        if value not in typing.get_args(kind):
            raise FleetError(f"{where}: must be one of {', '.join(map(str, typing.get_args(kind)))}")
        return value
    if origin in (tuple, frozenset):
        if not isinstance(value, list):
            raise FleetError(f"{where}: must be a list")
        return origin(_convert(typing.get_args(kind)[0], item, f"{where}[{number}]") for number, item in enumerate(value))
    if origin in (dict, Mapping):
        key_kind, value_kind = typing.get_args(kind)
        return {_convert(key_kind, key, where): _convert(value_kind, item, f"{where}.{key}")
                for key, item in _mapping(value, where).items()}
    if isinstance(kind, type) and is_dataclass(kind):
        return _convert_dataclass(kind, value, where)
    return _convert_scalar(kind, value, where)


def _convert_union(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    return _convert(next(kind for kind in kinds if kind is not type(None)), value, where)


def _convert_dataclass(kind: type[Any], value: Any, where: str) -> Any:
    given = _mapping(value, where)
    hints = typing.get_type_hints(kind)
    known = {field.name: field for field in fields(kind) if field.init}
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise FleetError(f"{where}: {kind.__name__} has no {', '.join(unknown)}")
    missing = sorted(name for name, field in known.items()
                     if name not in given and field.default is MISSING and field.default_factory is MISSING)
    if missing:
        raise FleetError(f"{where}: {', '.join(missing)} is missing")
    converted = {name: _convert(hints[name], item, f"{where}.{name}") for name, item in given.items()}
    try:
        return kind(**converted)
    except ValueError as error:
        raise FleetError(f"{where}: {error}") from error


def _convert_scalar(kind: Any, value: Any, where: str) -> Any:
    if kind is bytes and isinstance(value, str):
        return value.encode()
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is str and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)  # os_version: 2022
    if kind is int and isinstance(value, bool):
        raise FleetError(f"{where}: must be a number")
    if kind in (str, int, float, bool, bytes, datetime) and isinstance(value, kind):
        return value
    raise FleetError(f"{where}: must be of type {getattr(kind, '__name__', kind)}")
