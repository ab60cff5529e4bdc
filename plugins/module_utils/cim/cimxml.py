# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CIM-XML text of embedded instances, in the one form that hosts accept (wire 3.3)."""
from __future__ import annotations

from datetime import datetime, timedelta
from xml.etree.ElementTree import Element

from ansible_collections.agentless.hyperv.plugins.module_utils.cim import datetimes
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.types import EmbeddedText, Instance, Property, RawValue
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman import xml
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.xml import ProtocolError

_NUMERIC = {ord(one): f"&#{ord(one)};" for one in "&<>\"'"} | {ord("\n"): "&#xA;", ord("\r"): "&#xD;", ord("\t"): "&#x9;"}
_TYPES = frozenset({"string", "boolean", "datetime", "char16", "real32", "real64", "uint8", "uint16", "uint32", "uint64", "sint8",
                    "sint16", "sint32", "sint64"})
_MAX_NESTING = 8


def quote(value: str) -> str:
    """Character data or an attribute inside CIM-XML. Named entities fail on hosts, numeric ones work (wire 3.3)."""
    return value.translate(_NUMERIC)


def format_instance(instance: EmbeddedText) -> str:
    """The INSTANCE text. It never holds ``]]>`` and may stand in CDATA or be quoted once more as character data."""
    return f'<INSTANCE CLASSNAME="{quote(instance.class_name)}">{"".join(_property(one) for one in instance.properties)}</INSTANCE>'


def _property(one: Property) -> str:
    if one.cim_type not in _TYPES:
        raise ValueError(f"{one.name}: not a CIM type: {one.cim_type!r}")
    kind = f'NAME="{quote(one.name)}" TYPE="{one.cim_type}"'
    if isinstance(one.value, tuple):
        values = "".join(f"<VALUE>{quote(_text(one, value))}</VALUE>" for value in one.value)
        return f"<PROPERTY.ARRAY {kind}><VALUE.ARRAY>{values}</VALUE.ARRAY></PROPERTY.ARRAY>"
    if one.value is None:
        return f"<PROPERTY {kind}></PROPERTY>"
    return f"<PROPERTY {kind}><VALUE>{quote(_text(one, one.value))}</VALUE></PROPERTY>"


def _text(one: Property, value: str | bool | int | datetime | timedelta) -> str:
    """The value as text; a value that is not of the declared type would end as 32768 on the host, so it is a ValueError here."""
    if one.cim_type == "datetime":
        fits = isinstance(value, datetime | timedelta)
    elif one.cim_type == "boolean":
        fits = isinstance(value, bool)
    elif one.cim_type in ("string", "real32", "real64", "char16"):
        fits = isinstance(value, str)
    else:
        fits = isinstance(value, int) and not isinstance(value, bool) and _in_range(one.cim_type, value)
    if not fits:
        raise ValueError(f"{one.name}: {value!r} is not a {one.cim_type}")
    if isinstance(value, datetime | timedelta):
        return datetimes.format_cim(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _in_range(cim_type: str, value: int) -> bool:
    bits = int(cim_type[4:])
    return 0 <= value < 1 << bits if cim_type.startswith("u") else -(1 << bits - 1) <= value < 1 << bits - 1


def parse_instance(text: str, namespace: str) -> Instance:
    """An embedded instance of an answer. Raises ProtocolError for anything else."""
    root = xml.parse(text.encode("utf-8", "surrogatepass"))
    found = root if xml.local_name(root.tag) == "INSTANCE" else next((node for node in root.iter() if node.tag == "INSTANCE"), None)
    if found is None:
        raise ProtocolError("An embedded instance of an answer is not CIM-XML.")
    return _instance(found, namespace, _MAX_NESTING)


def _instance(node: Element, namespace: str, nesting: int) -> Instance:
    if nesting <= 0:
        raise ProtocolError("An embedded instance of an answer is nested too deeply.")
    class_name = node.attrib.get("CLASSNAME")
    if not class_name:
        raise ProtocolError("An embedded instance of an answer names no class.")
    values: dict[str, RawValue] = {}
    for one in node:
        name = one.attrib.get("NAME")
        if name and one.tag in ("PROPERTY", "PROPERTY.ARRAY", "PROPERTY.OBJECT", "PROPERTY.REFERENCE"):
            values[name] = _value(one, namespace, nesting)
    return Instance(namespace, class_name, values)


def _value(node: Element, namespace: str, nesting: int) -> RawValue:
    kind = node.attrib.get("TYPE", "").lower()
    for one in node:
        if one.tag == "VALUE":
            return _scalar(kind, one.text or "")
        if one.tag == "VALUE.ARRAY":
            return tuple(_scalar(kind, item.text or "") if item.tag == "VALUE" else None for item in one)
        if one.tag == "VALUE.OBJECT":
            inner = xml.child(one, "INSTANCE")
            return None if inner is None else _instance(inner, namespace, nesting - 1)
        if one.tag == "VALUE.REFERENCE":
            return "".join(one.itertext()).strip()
    return None


def _scalar(kind: str, text: str) -> RawValue:
    if kind != "datetime":
        return text
    for parse in (datetimes.parse_cim, datetimes.parse_time, datetimes.parse_interval):
        try:
            return parse(text)
        except ValueError:
            continue
    return text
