# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The body of an Invoke: what Windows takes as parameters and what it refuses (wire 3.2)."""
from __future__ import annotations

from collections.abc import Callable
from typing import Final
from xml.etree.ElementTree import Element

from .definitions import CLASS_URI_PREFIX, ClassDef, ParameterDef, PropertyDef
from .model import CimError, CimValue, Instance, Ref
from .schema import Schema
from .values import INTEGER_RANGES, REALS, parse_dmtf, parse_integer, parse_iso_interval, parse_iso_time, parse_real
from .xmltext import ADDRESSING, WSMAN, XSI, local_name, namespace_of

_NIL: Final = f"{{{XSI}}}nil"
_TYPE: Final = f"{{{XSI}}}type"
_TIMES: Final[dict[str, Callable[[str], CimValue]]] = {
    "Datetime": parse_iso_time, "Interval": parse_iso_interval, "CIM_DateTime": parse_dmtf}


def decode_input(schema: Schema, namespace: str, class_name: str, method: str, element: Element) -> dict[str, CimValue]:
    """The parameters in ``Method_INPUT``, typed by the schema.

    Names are matched without their namespace, but with letter case (wire 1.1, 3.2); the order is free; an omitted parameter is not in
    the result, a nil one is None; arrays are repeated elements. CimError ``method_not_found`` for an unknown method and
    ``schema_validation`` for: another body element, unknown or out-only parameters, a scalar given twice, text that is not of the
    type, ``a:EndpointReference`` around a reference, elements inside a string (a WS-CIM tree where CIM-XML text belongs).
    """
    definition = schema.get(namespace, class_name)
    found = definition.find_method(method)
    if found is None:
        raise CimError("method_not_found", f"{definition.name} has no method {method}")
    if local_name(element.tag) != f"{found.name}_INPUT":
        raise _refusal(f"the body must hold {found.name}_INPUT, not {local_name(element.tag)[:100]}")
    inputs = {param.name: param for param in found.parameters if param.is_in}
    return _decode_members(schema, inputs, element, f"{definition.name}.{found.name}")


def decode_epr(schema: Schema, element: Element) -> Ref:
    """The reference in an element that holds ``a:Address`` and ``a:ReferenceParameters`` directly; ``schema_validation`` otherwise."""
    where = local_name(element.tag)
    parameters = None
    for child in element:
        name = local_name(child.tag)
        if namespace_of(child.tag) != ADDRESSING or name not in ("Address", "ReferenceParameters"):
            raise _refusal(f"{where}: {name[:100]} is not part of a reference")  # a:EndpointReference ends here (wire 3.2)
        if name == "ReferenceParameters":
            parameters = child
    if parameters is None:
        raise _refusal(f"{where}: a reference needs ReferenceParameters")
    uri = parameters.findtext(f"{{{WSMAN}}}ResourceURI")
    if uri is None:
        raise _refusal(f"{where}: a reference needs a ResourceURI")
    namespace, class_name = _split_uri(schema, uri.strip())
    return Ref(namespace, class_name, _selectors(parameters))


def _split_uri(schema: Schema, uri: str) -> tuple[str, str]:
    if not uri.lower().startswith(CLASS_URI_PREFIX.lower()):
        raise _refusal(f"{uri[:200]!r} is no resource URI of a class")
    namespace, separator, class_name = uri[len(CLASS_URI_PREFIX):].rpartition("/")
    if not separator or not class_name:
        raise _refusal(f"{uri[:200]!r} names no class")
    definition = schema.find(namespace, class_name)
    return (namespace, class_name) if definition is None else (definition.namespace, definition.name)


def _selectors(parameters: Element) -> dict[str, str]:
    keys: dict[str, str] = {}
    for selector in parameters.iterfind(f"{{{WSMAN}}}SelectorSet/{{{WSMAN}}}Selector"):
        name = selector.get("Name")
        if not name or name.lower() in (known.lower() for known in keys):
            raise _refusal("a selector without a name, or one given twice")
        if name.lower() != "__cimnamespace":
            keys[name] = selector.text or ""
    return keys


def _decode_members(schema: Schema, members: dict[str, ParameterDef] | dict[str, PropertyDef], element: Element,
                    where: str) -> dict[str, CimValue]:
    grouped: dict[str, list[Element]] = {}
    for child in element:
        grouped.setdefault(local_name(child.tag), []).append(child)
    values: dict[str, CimValue] = {}
    for name, children in grouped.items():
        member = members.get(name)
        if member is None:
            raise _refusal(f"{where} does not take {name[:100]}")
        items = [_decode_value(schema, member, child, f"{where}.{name}") for child in children]
        if not member.array:
            if len(items) > 1:
                raise _refusal(f"{where}.{name} is no array, but was given {len(items)} times")
            values[name] = items[0]
        else:
            values[name] = None if items == [None] else items
    return values


def _decode_value(schema: Schema, member: ParameterDef | PropertyDef, element: Element, where: str) -> CimValue:
    if (element.get(_NIL) or "").strip() in ("true", "1"):
        return None
    if member.type == "reference":
        return decode_epr(schema, element)
    if member.type == "object":
        return _decode_object(schema, member, element, where)
    if member.type == "datetime":
        return _decode_time(element, where)
    if len(element):
        raise _refusal(f"{where} takes text, not elements")
    return _decode_scalar(member.type, element.text or "", where)


def _decode_scalar(cim_type: str, text: str, where: str) -> CimValue:
    if cim_type == "string":
        return text
    try:
        if cim_type == "boolean":
            return {"true": True, "1": True, "false": False, "0": False}[text.strip()]
        if cim_type in INTEGER_RANGES:
            return parse_integer(cim_type, text)
        if cim_type in REALS:
            return parse_real(text)
        return chr(parse_integer("uint16", text))  # char16: the character code (wire 2.5)
    except (ValueError, KeyError) as error:
        raise _refusal(f"{where}: {text[:100]!r} is no {cim_type}") from error


def _decode_time(element: Element, where: str) -> CimValue:
    if len(element) != 1:
        raise _refusal(f"{where}: a datetime needs one cim:Datetime or cim:Interval")
    child = element[0]
    parse = _TIMES.get(local_name(child.tag))
    if parse is None or len(child):
        raise _refusal(f"{where}: {local_name(child.tag)[:100]} is no datetime")
    try:
        return parse((child.text or "").strip())
    except (ValueError, OverflowError) as error:
        raise _refusal(f"{where}: {(child.text or '')[:100]!r} is no {local_name(child.tag)}") from error


def _decode_object(schema: Schema, member: ParameterDef | PropertyDef, element: Element, where: str) -> Instance:
    """Nested elements with ``xsi:type="q:Class_Type"``, each in the namespace of the class (wire 3.2)."""
    class_name = (element.get(_TYPE) or "").strip().rpartition(":")[2].removesuffix("_Type")
    namespaces = {namespace_of(child.tag) for child in element}
    definition = _embedded_class(schema, member, class_name, namespaces)
    if definition is None or any(space.lower() != definition.uri.lower() for space in namespaces):
        raise _refusal(f"{where} takes an instance with xsi:type and elements in the namespace of its class")
    values = _decode_members(schema, dict(definition.properties), element, where)
    return Instance(definition.namespace, definition.name, values)


def _embedded_class(schema: Schema, member: ParameterDef | PropertyDef, class_name: str, namespaces: set[str]) -> ClassDef | None:
    for uri in sorted(namespaces):
        if not uri.lower().startswith(CLASS_URI_PREFIX.lower()):
            return None
        definition = schema.find(uri[len(CLASS_URI_PREFIX):].rpartition("/")[0], class_name)
        if definition is None or (member.embedded is not None and not definition.is_a(member.embedded)):
            return None
        return definition
    return None


def _refusal(message: str) -> CimError:
    return CimError("schema_validation", message)
