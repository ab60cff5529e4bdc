# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CIM values as the collection sees them: instances, references and the types that parameters may have.

An answer on the wire carries text without types (wire 2.5), and an array of one element looks like a scalar.
So an :class:`Instance` keeps what arrived, and the *reader* of a property says what it wants:
``vm.integer("EnabledState")``, ``vm.texts("HostResource")``. A value that cannot be read so raises
:class:`CimValueError` with the class, the property and the offending text.
"""
from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from types import MappingProxyType
from typing import TypeAlias, Union

_INTEGER = re.compile(r"[+-]?\d{1,20}\Z")


class CimValueError(ValueError):
    """A property of an answer cannot be read as the type its reader asked for."""


@dataclass(frozen=True)
class Reference:
    """The address of one instance: what an EPR (or a WMI object path) says.

    ``namespace`` uses ``/`` (``root/virtualization/v2``); ``keys`` maps key names to their text.
    Class and key names compare without case, values of keys likewise (wire 1.2).
    """

    namespace: str
    class_name: str
    keys: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "keys", MappingProxyType(dict(self.keys)))

    def key(self, name: str) -> str | None:
        """The value of one key, looked up without case; None when absent."""
        wanted = name.lower()
        for key, value in self.keys.items():
            if key.lower() == wanted:
                return value
        return None

    def identity(self) -> tuple[str, str, tuple[tuple[str, str], ...]]:
        """A comparable form: everything in lower case, keys sorted."""
        keys = tuple(sorted((k.lower(), v.lower()) for k, v in self.keys.items()))
        return self.namespace.lower(), self.class_name.lower(), keys

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reference) and self.identity() == other.identity()

    def __hash__(self) -> int:
        return hash(self.identity())


RawValue: TypeAlias = Union[str, datetime, timedelta, Reference, "Instance", tuple["RawValue", ...], None]


@dataclass(frozen=True)
class Instance:
    """One instance as it was received; ``values`` holds raw values under the names the host used.

    A property that was nil is present with None; one that the host left out (null array, older class) is absent.
    Readers treat both as null.
    """

    namespace: str
    class_name: str
    values: Mapping[str, RawValue]

    @cached_property
    def _folded(self) -> dict[str, RawValue]:
        """The values by lower-case name; made when the first property is read, since most instances of a host are not looked at twice."""
        return {name.lower(): value for name, value in self.values.items()}

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._folded

    def raw(self, name: str) -> RawValue:
        """The raw value, None when null or absent."""
        if name in self.values:  # hosts write names as their schema does
            return self.values[name]
        return self._folded.get(name.lower())

    def _scalar(self, name: str) -> RawValue:
        value = self.raw(name)
        if isinstance(value, tuple):
            if len(value) != 1:
                raise self._bad(name, "one value", value)
            return value[0]
        return value

    def _elements(self, name: str) -> Iterator[RawValue]:
        value = self.raw(name)
        if value is None:
            return
        if isinstance(value, tuple):
            yield from value
        else:
            yield value

    def _bad(self, name: str, wanted: str, value: object) -> CimValueError:
        return CimValueError(f"{self.class_name}.{name}: expected {wanted}, the host sent {str(value)[:120]!r}")

    def _as_text(self, name: str, value: RawValue) -> str:
        if not isinstance(value, str):
            raise self._bad(name, "text", value)
        return value

    def _as_integer(self, name: str, value: RawValue) -> int:
        if not isinstance(value, str) or not _INTEGER.match(value.strip()):
            raise self._bad(name, "an integer", value)
        return int(value)

    def text(self, name: str) -> str | None:
        """A string property; None when null."""
        value = self._scalar(name)
        return None if value is None else self._as_text(name, value)

    def required_text(self, name: str) -> str:
        """A string property that must not be null."""
        value = self.text(name)
        if value is None:
            raise self._bad(name, "text", None)
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """A string array; empty when null or absent."""
        return tuple(self._as_text(name, value) for value in self._elements(name) if value is not None)

    def integer(self, name: str) -> int | None:
        """An integer property of any width; None when null."""
        value = self._scalar(name)
        return None if value is None else self._as_integer(name, value)

    def integers(self, name: str) -> tuple[int, ...]:
        """An integer array; empty when null or absent."""
        return tuple(self._as_integer(name, value) for value in self._elements(name) if value is not None)

    def boolean(self, name: str) -> bool | None:
        """A boolean property; None when null."""
        value = self._scalar(name)
        if value is None:
            return None
        if isinstance(value, str) and value.strip().lower() in ("true", "false"):
            return value.strip().lower() == "true"
        raise self._bad(name, "true or false", value)

    def time(self, name: str) -> datetime | None:
        """A timestamp, aware, in UTC; None when null or the 1601 sentinel (wire 2.5)."""
        value = self._scalar(name)
        if value is None:
            return None
        if not isinstance(value, datetime):
            raise self._bad(name, "a time", value)
        return None if value.year <= 1601 else value

    def interval(self, name: str) -> timedelta | None:
        """A duration; None when null."""
        value = self._scalar(name)
        if value is None or isinstance(value, timedelta):
            return value
        raise self._bad(name, "an interval", value)

    def reference(self, name: str) -> Reference | None:
        """A reference property; None when null."""
        value = self._scalar(name)
        if value is None or isinstance(value, Reference):
            return value
        raise self._bad(name, "a reference", value)

    def references(self, name: str) -> tuple[Reference, ...]:
        """A reference array; empty when null or absent."""
        found = []
        for value in self._elements(name):
            if not isinstance(value, Reference):
                raise self._bad(name, "references", value)
            found.append(value)
        return tuple(found)

    def instances(self, name: str) -> tuple[Instance, ...]:
        """Embedded instances carried as objects (not as CIM-XML text); empty when null or absent."""
        found = []
        for value in self._elements(name):
            if not isinstance(value, Instance):
                raise self._bad(name, "embedded instances", value)
            found.append(value)
        return tuple(found)


PropertyValue: TypeAlias = "str | bool | int | datetime | timedelta | tuple[str | bool | int, ...] | None"


@dataclass(frozen=True)
class Property:
    """One property of an instance to be sent as CIM-XML text.

    ``cim_type`` is the MOF type in lower case: a wrong one ends as 32768 on the host (wire 3.3).
    ``value`` None sends the property without a value. A tuple is sent as PROPERTY.ARRAY.
    """

    name: str
    cim_type: str
    value: PropertyValue


@dataclass(frozen=True)
class EmbeddedText:
    """An ``[EmbeddedInstance]`` string parameter: the instance travels as CIM-XML text (wire 3.2)."""

    class_name: str
    properties: Sequence[Property]


@dataclass(frozen=True)
class EmbeddedObject:
    """An object-typed parameter: the instance travels as nested elements with xsi:type (wire 3.2)."""

    namespace: str
    class_name: str
    values: Mapping[str, Parameter]


Parameter: TypeAlias = str | bool | int | datetime | timedelta | Reference | EmbeddedText | EmbeddedObject | Sequence["Parameter"] | None
