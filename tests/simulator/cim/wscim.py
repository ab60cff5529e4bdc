# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Instances, references and results of methods as WS-CIM elements, as Windows writes them (wire 2.5, 3.1).

Each function returns XML text that is complete in itself: every prefix it uses is declared in it.
Reading the bodies of requests is :mod:`simulator.cim.wscim_input`; its functions are offered here, too.
"""
from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache, partial
from typing import Final

from . import cimxml
from .definitions import CLASS_URI_PREFIX, ClassDef, ParameterDef, PropertyDef
from .errors import SimulatorBug
from .model import CimValue, Instance, Ref
from .schema import Schema
from .values import INTEGER_RANGES, format_iso_interval, format_iso_time, format_real
from .wscim_input import decode_epr, decode_input
from .xmltext import ADDRESSING, ANONYMOUS, COMMON, WSMAN, XSI, attribute, text

__all__ = ["decode_epr", "decode_input", "encode_epr", "encode_fragment", "encode_instance", "encode_output"]

_EPR_PREFIXES: Final = f' xmlns:a="{ADDRESSING}" xmlns:w="{WSMAN}"'
_TOP: Final = "p"
_EMBEDDED: Final = {"p": "q", "q": "r", "r": "q", "": "q"}
"""The prefix inside an element: an embedded instance must not hide the prefix of the element that holds it."""


@dataclass(frozen=True)
class _Style:
    """How times are written, and the prefix of ``cim:Datetime`` (absent in a fragment)."""

    schema: Schema
    utc_offset: timedelta | None
    time_prefix: str = "cim:"


@dataclass(frozen=True, slots=True)
class _Member:
    """One property or parameter, with its tags made in advance."""

    name: str
    array: bool
    start: str
    """Without the closing ``>``, since references and embedded instances add to it."""
    end: str
    nil: str
    simple: Callable[[CimValue], str] | None
    """The text of a value that needs nothing but its tags."""
    definition: PropertyDef | ParameterDef
    prefix: str


def encode_instance(schema: Schema, instance: Instance, *, utc_offset: timedelta | None = None) -> str:
    """An instance with all properties of its class (wire 2.5).

    ``utc_offset`` writes times with that offset in place of ``Z``, as some servers do.
    """
    definition = schema.get(instance.namespace, instance.class_name)
    style = _Style(schema, utc_offset)
    start, end = _instance_tags(definition)
    return f"{start}{''.join(_members(_plan(definition, _TOP), instance, style))}{end}"


def encode_fragment(schema: Schema, instance: Instance, columns: Collection[str], *, utc_offset: timedelta | None = None) -> str:
    """A projection: ``w:XmlFragment`` with unqualified names in alphabetical order, nil kept, ``Datetime`` without prefix (wire 2.5)."""
    definition = schema.get(instance.namespace, instance.class_name)
    wanted = {column.lower() for column in columns}
    plan = [member for member in _plan(definition, "") if member.name.lower() in wanted]
    style = _Style(schema, utc_offset, time_prefix="")
    body = "".join(_members(plan, instance, style))
    return f'<w:XmlFragment xmlns:xsi="{XSI}" xmlns:w="{WSMAN}">{body}</w:XmlFragment>'


def encode_epr(ref: Ref, *, wrapper: bool = True) -> str:
    """A reference: inside ``a:EndpointReference`` as enumerations have it (wire 2.3), or only its two children.

    Without the wrapper the element around it must declare ``a`` and ``w``.
    """
    uri = text(f"{CLASS_URI_PREFIX}{ref.namespace}/{ref.class_name}")
    selectors = "".join(f"<w:Selector Name={attribute(name)}>{text(str(ref.keys[name]))}</w:Selector>"
                        for name in sorted(ref.keys, key=str.lower))
    body = (f"<a:Address>{ANONYMOUS}</a:Address><a:ReferenceParameters><w:ResourceURI>{uri}</w:ResourceURI>"
            f"<w:SelectorSet>{selectors}</w:SelectorSet></a:ReferenceParameters>")
    return f"<a:EndpointReference{_EPR_PREFIXES}>{body}</a:EndpointReference>" if wrapper else body


def encode_output(schema: Schema, namespace: str, class_name: str, method: str, outs: Sequence[tuple[ParameterDef, CimValue]], *,
                  utc_offset: timedelta | None = None) -> str:
    """``Method_OUTPUT``: out parameters as given, ReturnValue last.

    A null parameter is nil (wire 3.1). It is absent when it is an array (wire 2.5), or when it is in/out: CreateSnapshot leaves out
    ResultingSnapshot, the only case recorded (wire 3.4).
    """
    definition = schema.get(namespace, class_name)
    found = definition.find_method(method)
    if found is None:
        raise SimulatorBug(f"{class_name} has no method {method}")
    style = _Style(schema, utc_offset)
    body: list[str] = []
    for param, value in outs:
        if value is not None or not (param.array or param.is_in):
            body.extend(_value(_member(param, _TOP), value, style))
    name = f"{_TOP}:{found.name}_OUTPUT"
    return (f'<{name} xmlns:xsi="{XSI}" xmlns:{_TOP}={attribute(definition.uri)} xmlns:cim="{COMMON}">{"".join(body)}</{name}>')


@cache
def _instance_tags(definition: ClassDef) -> tuple[str, str]:
    name = f"{_TOP}:{definition.name}"
    start = f'<{name} xmlns:xsi="{XSI}" xmlns:{_TOP}={attribute(definition.uri)} xmlns:cim="{COMMON}" xsi:type="{name}_Type">'
    return start, f"</{name}>"


@cache
def _plan(definition: ClassDef, prefix: str) -> tuple[_Member, ...]:
    return tuple(_member(prop, prefix) for prop in definition.ordered)


def _member(definition: PropertyDef | ParameterDef, prefix: str) -> _Member:
    name = f"{prefix}:{definition.name}" if prefix else definition.name
    return _Member(definition.name, definition.array, f"<{name}", f"</{name}>", f'<{name} xsi:nil="true"/>', _simple_writer(definition),
                   definition, prefix)


def _simple_writer(definition: PropertyDef | ParameterDef) -> Callable[[CimValue], str] | None:
    if definition.type in ("reference", "object", "datetime") or definition.embedded is not None:
        return None
    if definition.type in INTEGER_RANGES:
        return partial(_integer, definition.name)
    return _SIMPLE[definition.type]


def _members(plan: Iterable[_Member], instance: Instance, style: _Style) -> list[str]:
    values = instance.values
    parts: list[str] = []
    for member in plan:
        value = values.get(member.name)
        if value is None:
            if not member.array:  # a null array is absent (wire 2.5)
                parts.append(member.nil)
        elif member.simple is not None and not member.array:
            parts.append(f"{member.start}>{member.simple(value)}{member.end}")
        else:
            parts.extend(_value(member, value, style))
    return parts


def _value(member: _Member, value: CimValue, style: _Style) -> Iterable[str]:
    """The element of a value, or the elements of an array."""
    if member.array and isinstance(value, list):
        return [_element(member, item, style) for item in value]
    return (_element(member, value, style),)


def _element(member: _Member, value: CimValue, style: _Style) -> str:
    if value is None:
        return member.nil
    if member.simple is not None:
        return f"{member.start}>{member.simple(value)}{member.end}"
    if isinstance(value, Ref):
        return f"{member.start}{_EPR_PREFIXES}>{encode_epr(value, wrapper=False)}{member.end}"
    if isinstance(value, Instance):
        if member.definition.type == "string":
            return f"{member.start}>{text(cimxml.format_instance(style.schema, value))}{member.end}"
        return _embedded(member, value, style)
    if isinstance(value, datetime):
        return f"{member.start}>{_time('Datetime', format_iso_time(value, style.utc_offset), style)}{member.end}"
    if isinstance(value, timedelta):
        return f"{member.start}>{_time('Interval', format_iso_interval(value), style)}{member.end}"
    return f"{member.start}>{text(str(value))}{member.end}"


def _time(name: str, value: str, style: _Style) -> str:
    return f"<{style.time_prefix}{name}>{value}</{style.time_prefix}{name}>"


def _embedded(member: _Member, value: Instance, style: _Style) -> str:
    """An object-typed value: elements in the namespace of its own class, with xsi:type (wire 2.5)."""
    definition = style.schema.get(value.namespace, value.class_name)
    prefix = _EMBEDDED[member.prefix]
    body = "".join(_members(_plan(definition, prefix), value, style))
    return (f'{member.start} xmlns:{prefix}={attribute(definition.uri)} xsi:type="{prefix}:{definition.name}_Type">{body}{member.end}')


def _string(value: CimValue) -> str:
    return text(str(value))


def _boolean(value: CimValue) -> str:
    return "true" if value else "false"


def _integer(name: str, value: CimValue) -> str:
    if not isinstance(value, int):
        raise SimulatorBug(f"{name} must be an integer, not {value!r}")
    return str(int(value))


def _real(value: CimValue) -> str:
    if not isinstance(value, int | float):
        raise SimulatorBug(f"{value!r} is no number")
    return format_real(value)


def _char16(value: CimValue) -> str:
    return str(ord(str(value)))  # the character code (wire 2.5)


_SIMPLE: Final[dict[str, Callable[[CimValue], str]]] = {
    "string": _string, "boolean": _boolean, "real32": _real, "real64": _real, "char16": _char16}
