# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CIM-XML text of ``[EmbeddedInstance]`` strings, read as strictly as the Hyper-V providers do and written as they do (wire 3.3)."""
from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final
from xml.etree.ElementTree import Element

from .definitions import ClassDef, PropertyDef
from .errors import ProviderRefusal, SimulatorBug
from .model import CimValue, Instance, Ref
from .schema import Schema
from .values import INTEGER_RANGES, REALS, format_dmtf, format_real, parse_dmtf, parse_integer, parse_real
from .xmltext import MalformedXml, attribute, parse, text

FAILED: Final = 32768
INVALID_PARAMETER: Final = 32773
INCORRECT_DATA_TYPE: Final = 32776

# What was seen of entities inside the text (wire 3.3): numeric ones and &gt; work, &amp; ends as 32768, &lt; as 32773. Of &quot; and
# &apos; nothing is known; they are refused, so that nobody comes to depend on them.
_ENTITY = re.compile(r"&(amp|lt|quot|apos);")
_ENTITY_CODES: Final = {"amp": FAILED, "lt": INVALID_PARAMETER, "quot": INVALID_PARAMETER, "apos": INVALID_PARAMETER}


class CimXmlError(ProviderRefusal):
    """Text that a provider does not take as an instance; ``return_value`` (or the ErrorCode of the job) is 32768, 32773 or 32776."""


def parse_instance(source: str, schema: Schema, namespace: str, *, expected: str | None = None,
                   shape_error: int = INVALID_PARAMETER) -> Instance:
    """One ``<INSTANCE>`` as the Hyper-V providers read it (wire 3.3).

    Properties that are omitted are not in ``values``; one without ``VALUE`` is None there. ``expected``: the class that the parameter
    embeds; another class than it or its subclasses is 32773. ``shape_error``: the code for a scalar where an array belongs or the
    reverse: 32773, but 32776 from the switch management service. Raises :class:`CimXmlError`: 32768 for a missing or wrong TYPE, a
    value that is not of it (ISO times and intervals too) and ``&amp;``; 32773 for ``&lt;``, unknown classes and properties, bad XML.
    """
    entity = _ENTITY.search(source)
    if entity is not None:
        raise CimXmlError(_ENTITY_CODES[entity[1]], f"the provider does not take &{entity[1]}; in an embedded instance")
    try:
        root = parse(source)
    except MalformedXml as error:
        raise CimXmlError(INVALID_PARAMETER, f"no CIM-XML instance: {error}") from error
    if root.tag != "INSTANCE":
        raise CimXmlError(INVALID_PARAMETER, f"{root.tag[:100]} is no INSTANCE")
    class_name = root.get("CLASSNAME", "")
    definition = schema.find(namespace, class_name)
    if definition is None or (expected is not None and not definition.is_a(expected)):
        raise CimXmlError(INVALID_PARAMETER, f"an instance of {class_name[:100]!r} cannot be given here")
    values: dict[str, CimValue] = {}
    for element in root:
        if element.tag == "QUALIFIER":
            continue
        prop = _property(definition, element, shape_error)
        values[prop.name] = _value(definition, prop, element, shape_error)
    return Instance(definition.namespace, definition.name, values)


def _property(definition: ClassDef, element: Element, shape_error: int) -> PropertyDef:
    name = element.get("NAME", "")
    prop = definition.find_property(name)
    if prop is None or element.tag not in ("PROPERTY", "PROPERTY.ARRAY"):
        raise CimXmlError(INVALID_PARAMETER, f"{definition.name} has no {element.tag[:50]} {name[:100]!r}")
    if prop.type in ("reference", "object"):
        raise CimXmlError(INVALID_PARAMETER, f"{definition.name}.{prop.name} cannot be given as text")
    if element.get("TYPE") != prop.type:
        raise CimXmlError(FAILED, f"{definition.name}.{prop.name} has type {prop.type}, not {str(element.get('TYPE'))[:50]}")
    if prop.array != (element.tag == "PROPERTY.ARRAY"):
        raise CimXmlError(shape_error, f"{definition.name}.{prop.name} is {'an' if prop.array else 'no'} array")
    return prop


def _value(definition: ClassDef, prop: PropertyDef, element: Element, shape_error: int) -> CimValue:
    content = [child for child in element if child.tag != "QUALIFIER"]
    if not content:
        return None
    wanted = "VALUE.ARRAY" if prop.array else "VALUE"
    if len(content) > 1 or content[0].tag != wanted:
        raise CimXmlError(shape_error, f"{definition.name}.{prop.name} needs one {wanted}")
    if not prop.array:
        return _scalar(definition, prop, content[0])
    return [None if child.tag == "VALUE.NULL" else _scalar(definition, prop, child) for child in content[0]]


def _scalar(definition: ClassDef, prop: PropertyDef, element: Element) -> CimValue:
    where = f"{definition.name}.{prop.name}"
    if element.tag != "VALUE" or len(element):
        raise CimXmlError(INVALID_PARAMETER, f"{where}: {element.tag[:50]} is no VALUE")
    source = element.text or ""
    try:
        return _parser(prop.type)(source)
    except (ValueError, KeyError, OverflowError) as error:
        raise CimXmlError(FAILED, f"{where}: {source[:100]!r} is no {prop.type}") from error


def _parser(cim_type: str) -> Callable[[str], CimValue]:
    if cim_type in INTEGER_RANGES:
        return lambda source: parse_integer(cim_type, source)
    if cim_type in REALS:
        return parse_real
    return _PARSERS[cim_type]


def _boolean(source: str) -> bool:
    return {"true": True, "false": False}[source.strip().lower()]  # true and TRUE are both taken (wire 3.3)


def _char16(source: str) -> str:
    if len(source) != 1:
        raise ValueError("one character")
    return source


_PARSERS: Final[dict[str, Callable[[str], CimValue]]] = {
    "string": str, "boolean": _boolean, "char16": _char16, "datetime": lambda source: parse_dmtf(source.strip())}


def format_instance(schema: Schema, instance: Instance) -> str:
    """An instance as the text in an answer: all properties, null ones without ``VALUE``, inherited ones marked (wire 2.5)."""
    definition = schema.get(instance.namespace, instance.class_name)
    body = "".join(_format_property(schema, definition, prop, instance.values.get(prop.name)) for prop in definition.ordered)
    return f"<INSTANCE CLASSNAME={attribute(definition.name)}>{body}</INSTANCE>"


def _format_property(schema: Schema, definition: ClassDef, prop: PropertyDef, value: CimValue) -> str:
    inherited = "" if prop.origin == definition.name else ' PROPAGATED="true"'
    head = f"NAME={attribute(prop.name)}{inherited}"
    if prop.type == "reference":
        return _format_reference(head, prop, value)
    if prop.type == "object":
        return ""  # the text form has no place for objects
    if prop.array:
        return f"<PROPERTY.ARRAY {head} TYPE={attribute(prop.type)}>{_format_array(schema, value)}</PROPERTY.ARRAY>"
    content = "" if value is None else f"<VALUE>{_format_scalar(schema, value)}</VALUE>"
    return f"<PROPERTY {head} TYPE={attribute(prop.type)}>{content}</PROPERTY>"


def _format_array(schema: Schema, value: CimValue) -> str:
    if value is None:
        return ""
    items = value if isinstance(value, list) else [value]
    body = "".join("<VALUE.NULL/>" if item is None else f"<VALUE>{_format_scalar(schema, item)}</VALUE>" for item in items)
    return f"<VALUE.ARRAY>{body}</VALUE.ARRAY>"


def _format_scalar(schema: Schema, value: CimValue) -> str:
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, Instance):
        return text(format_instance(schema, value))
    if isinstance(value, datetime | timedelta):
        return format_dmtf(value)
    if isinstance(value, float):
        return format_real(value)
    return text(str(int(value)) if isinstance(value, int) else str(value))


def _format_reference(head: str, prop: PropertyDef, value: CimValue) -> str:
    target = f" REFERENCECLASS={attribute(prop.ref)}" if prop.ref else ""
    if value is None:
        return f"<PROPERTY.REFERENCE {head}{target}></PROPERTY.REFERENCE>"
    if not isinstance(value, Ref):
        raise SimulatorBug(f"{prop.name} must be a Ref, not {value!r}")
    keys = "".join(f'<KEYBINDING NAME={attribute(name)}><KEYVALUE VALUETYPE="string">{text(str(value.keys[name]))}</KEYVALUE></KEYBINDING>'
                   for name in sorted(value.keys, key=str.lower))
    name = f"<INSTANCENAME CLASSNAME={attribute(value.class_name)}>{keys}</INSTANCENAME>"
    return f"<PROPERTY.REFERENCE {head}{target}><VALUE.REFERENCE>{name}</VALUE.REFERENCE></PROPERTY.REFERENCE>"
