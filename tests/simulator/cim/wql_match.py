# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a WQL condition means for an instance: names and types checked once, then a predicate (wire 2.4)."""
from __future__ import annotations

import operator as operators
import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any, Final, TypeAlias

from . import wql
from .definitions import ClassDef, PropertyDef
from .model import CimValue, Instance, Ref
from .paths import relative_path
from .schema import Schema
from .values import INTEGER_RANGES, REALS, key_text, parse_dmtf
from .wql import Compare, Condition, InvalidQuery, IsNull, Not

Predicate: TypeAlias = Callable[[Instance], bool]

_ORDER: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "=": operators.eq, "<>": operators.ne, "<": operators.lt, ">": operators.gt, "<=": operators.le, ">=": operators.ge}


def compile_condition(schema: Schema, definition: ClassDef, condition: Condition) -> Predicate:
    """A predicate over instances of ``definition`` and its subclasses.

    InvalidQuery for properties that the class lacks, arrays, and literals that are not of the property's type. Strings compare without
    letter case; a null property makes every comparison false.
    """
    if isinstance(condition, wql.All | wql.Any):
        terms = [compile_condition(schema, definition, term) for term in condition.terms]
        combine = all if isinstance(condition, wql.All) else any
        return lambda instance: combine(term(instance) for term in terms)
    if isinstance(condition, Not):
        term = compile_condition(schema, definition, condition.term)
        return lambda instance: not term(instance)
    read = _reader(schema, definition, condition.name)
    if isinstance(condition, IsNull):
        return lambda instance: read(instance) is None
    return _comparison(schema, definition, condition, read)


def equalities(definition: ClassDef, condition: Condition | None) -> dict[str, CimValue]:
    """Properties that must equal a value for the whole condition to hold, typed: what a provider can look up directly."""
    found: dict[str, CimValue] = {}
    for part in _conjunction(condition):
        if isinstance(part, Compare) and part.operator == "=":
            prop = definition.find_property(part.name)
            if prop is not None and not prop.array and prop.type != "reference":
                found[prop.name] = _convert(prop, part)
            elif prop is None and "." in part.name:
                found[part.name] = part.literal
    return found


def _conjunction(condition: Condition | None) -> Iterator[Condition]:
    if isinstance(condition, wql.All):
        for term in condition.terms:
            yield from _conjunction(term)
    elif condition is not None:
        yield condition


def _reader(schema: Schema, definition: ClassDef, name: str) -> Callable[[Instance], CimValue]:
    prop = definition.find_property(name)
    if prop is not None:
        if prop.array:
            raise InvalidQuery(f"{definition.name}.{prop.name} is an array, which WQL does not compare")
        return lambda instance: instance.values.get(prop.name)
    if "." in name:
        _check_dotted(definition, name)
        return lambda instance: _dotted(instance, name)
    system = _system_property(schema, name)
    if system is None:
        raise InvalidQuery(f"{definition.name} has no property {name}")
    return system


def _check_dotted(definition: ClassDef, name: str) -> None:
    prop = definition.find_property(name.partition(".")[0])
    if prop is None or prop.type != "object":
        raise InvalidQuery(f"{definition.name} has no embedded object for {name}")


def _dotted(instance: Instance, name: str) -> CimValue:
    wanted = name.lower()
    for key, value in instance.values.items():
        if key.lower() == wanted:
            return value
    head, _unused, rest = name.partition(".")
    embedded = next((value for key, value in instance.values.items() if key.lower() == head.lower()), None)
    if isinstance(embedded, Instance):
        return next((value for key, value in embedded.values.items() if key.lower() == rest.lower()), None)
    return None


def _system_property(schema: Schema, name: str) -> Callable[[Instance], CimValue] | None:
    """``__CLASS`` and its like, which WMI adds to every instance."""
    def definition(instance: Instance) -> ClassDef:
        return schema.get(instance.namespace, instance.class_name)

    readers: dict[str, Callable[[Instance], CimValue]] = {
        "__class": lambda instance: instance.class_name,
        "__namespace": lambda instance: instance.namespace.replace("/", "\\"),
        "__superclass": lambda instance: definition(instance).superclass,
        "__dynasty": lambda instance: definition(instance).ancestors[-1],
        "__relpath": lambda instance: relative_path(reference_of(definition(instance), instance)),
        "__this": lambda instance: instance,
    }
    return readers.get(name.lower())


def reference_of(definition: ClassDef, instance: Instance) -> Ref:
    """The reference of an instance. A key that is itself a reference becomes the text of its path."""
    keys = {}
    for key in definition.keys:
        value = instance.values.get(key)
        keys[key] = f"{value.namespace}:{relative_path(value)}" if isinstance(value, Ref) else key_text(value)
    return Ref(definition.namespace, definition.name, keys)


def _comparison(schema: Schema, definition: ClassDef, condition: Compare, read: Callable[[Instance], CimValue]) -> Predicate:
    if condition.operator == "ISA":
        wanted = str(condition.literal)
        return lambda instance: _is_a(schema, read(instance), wanted)
    prop = definition.find_property(condition.name)
    if condition.operator == "LIKE":
        if prop is not None and prop.type != "string":
            raise InvalidQuery(f"{definition.name}.{prop.name} is no string for LIKE")
        pattern = like_pattern(str(condition.literal))
        return lambda instance: pattern.fullmatch(str(value)) is not None if (value := read(instance)) is not None else False
    wanted_value = _fold(condition.literal if prop is None else _convert(prop, condition))
    compare = _ORDER[condition.operator]

    def predicate(instance: Instance) -> bool:
        value = _fold(read(instance))
        return value is not None and _kind(value) == _kind(wanted_value) and compare(value, wanted_value)

    return predicate


def _is_a(schema: Schema, value: CimValue, wanted: str) -> bool:
    return isinstance(value, Instance | Ref) and schema.is_a(value.namespace, value.class_name, wanted)


def _fold(value: CimValue) -> CimValue:
    """Strings compare without letter case; the rest as it is (booleans are numbers)."""
    return value.casefold() if isinstance(value, str) else value


def _kind(value: CimValue) -> type:
    return float if isinstance(value, int | float) else type(value)


def _convert(prop: PropertyDef, condition: Compare) -> CimValue:
    """The literal as a value of the property's type; a string is taken for numbers, booleans and times as well."""
    literal = condition.literal
    error = InvalidQuery(f"{prop.name} has type {prop.type}, which {str(literal)[:100]!r} is not")
    if prop.type in INTEGER_RANGES or prop.type in REALS:
        return _number(literal, error)
    if prop.type == "boolean":
        return _truth(literal, error)
    if prop.type == "reference":
        if not isinstance(literal, str) or condition.operator not in ("=", "<>"):
            raise error
        raise InvalidQuery(f"{prop.name} is a reference; ask with REFERENCES OF")
    if not isinstance(literal, str) or prop.type == "object":
        raise error
    if prop.type == "datetime":
        return _moment(literal, error)
    return literal


def _number(literal: Any, error: InvalidQuery) -> CimValue:
    if isinstance(literal, str):
        try:
            return int(literal.strip())
        except ValueError:
            raise error from None
    if isinstance(literal, bool):
        raise error
    number: int | float = literal
    return number


def _truth(literal: Any, error: InvalidQuery) -> bool:
    if isinstance(literal, str):
        if literal.lower() not in ("true", "false"):
            raise error
        return literal.lower() == "true"
    if literal in (0, 1):  # true and false are these numbers, too
        return bool(literal)
    raise error


def _moment(literal: str, error: InvalidQuery) -> datetime | timedelta:
    try:
        return parse_dmtf(literal)
    except ValueError:
        raise error from None


def like_pattern(pattern: str) -> re.Pattern[str]:
    """LIKE as a regular expression: ``%`` any text, ``_`` one character, ``[a-f]`` one of them, ``[^a-f]`` none of them."""
    parts = []
    position = 0
    while position < len(pattern):
        character = pattern[position]
        end = pattern.find("]", position + 2) if character == "[" else -1
        if end > 0:
            parts.append(_like_set(pattern[position + 1:end]))
            position = end
        else:
            parts.append({"%": ".*", "_": "."}.get(character) or re.escape(character))
        position += 1
    return re.compile("".join(parts), re.IGNORECASE | re.DOTALL)


def _like_set(content: str) -> str:
    negated = content.startswith("^") and len(content) > 1
    body = content[1:] if negated else content
    items = []
    position = 0
    while position < len(body):
        is_range = body[position + 1:position + 2] in ("-", "=") and position + 2 < len(body)
        low, high = body[position], body[position + 2] if is_range else body[position]
        if low > high:
            raise InvalidQuery(f"{low}-{high} is no range")
        items.append(f"{re.escape(low)}-{re.escape(high)}")
        position += 3 if is_range else 1
    return f"[{'^' if negated else ''}{''.join(items)}]"
