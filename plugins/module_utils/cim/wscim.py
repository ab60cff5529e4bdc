# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CIM values on the wire of WS-Management: resource URIs, instances, references and parameters (wire 1.1, 2.5, 3)."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from xml.etree.ElementTree import Element

from ansible_collections.agentless.hyperv.plugins.module_utils.cim import cimxml, datetimes
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.types import (
    EmbeddedObject,
    EmbeddedText,
    Instance,
    Parameter,
    RawValue,
    Reference,
)
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman import envelope, xml
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.xml import Markup, ProtocolError, element, text

PREFIX = "http://schemas.microsoft.com/wbem/wsman/1/wmi/"
_NIL = f"{{{xml.XSI}}}nil"
_TYPE = f"{{{xml.XSI}}}type"
_LOCATION = f"{{{xml.CIM}}}Location"
_TRUE = ("true", "1")
_MAX_NESTING = 8
_MAX_KEYS = 64


def resource_uri(namespace: str, class_name: str) -> str:
    """The resource URI of a class; ``*`` as the class stands for all of a namespace (wire 1.1)."""
    return f"{PREFIX}{namespace.replace(chr(92), '/').strip('/')}/{class_name}"


def split_resource_uri(uri: str) -> tuple[str, str]:
    """Namespace and class of a resource URI, which hosts may write in another letter case. Raises ProtocolError."""
    stripped = uri.strip()
    if not stripped.lower().startswith(PREFIX):
        raise ProtocolError(f"A reference of an answer is not to a CIM class: {stripped[:120]!r}.")
    namespace, _unused, class_name = stripped[len(PREFIX):].rpartition("/")
    if not namespace or not class_name:
        raise ProtocolError(f"A reference of an answer names no class: {stripped[:120]!r}.")
    return namespace, class_name


def decode_reference(node: Element) -> Reference:
    """Address and reference parameters inside ``node``, directly or in an ``EndpointReference`` (wire 2.3, 2.5)."""
    wrapped = xml.child(node, "EndpointReference")
    holder = node if wrapped is None else wrapped
    parameters = xml.child(holder, "ReferenceParameters")
    uri = None if parameters is None else xml.child_text(parameters, "ResourceURI")
    if parameters is None or not uri:
        raise ProtocolError("A reference of an answer has no address.")
    namespace, class_name = split_resource_uri(uri)
    keys: dict[str, str] = {}
    selectors = xml.child(parameters, "SelectorSet")
    for selector in () if selectors is None else selectors:
        name = xml.attributes_of(selector).get("Name")
        if name and name.lower() != "__cimnamespace":
            keys[name] = selector.text or ""
        if len(keys) > _MAX_KEYS:
            raise ProtocolError("A reference of an answer has too many keys.")
    return Reference(namespace, class_name, keys)


def decode_instance(node: Element, *, namespace: str | None = None, class_name: str | None = None) -> Instance:
    """An instance; its class is what the element itself says, since hosts send subclasses (wire 2.6).

    ``namespace`` and ``class_name`` stand in where the element does not say: projections (``XmlFragment``) and odd namespaces.
    """
    if xml.local_name(node.tag) == "Item":  # EnumerateObjectAndEPR (wire 2.3)
        node = next((one for one in node if xml.local_name(one.tag) != "EndpointReference"), node)
    own_namespace, own_class = _names(node.tag)
    return _instance(node, own_namespace or namespace or "", own_class or class_name or "", _MAX_NESTING)


def _names(tag: object) -> tuple[str | None, str | None]:
    """The letters of the element's name are kept; its namespace URI gives the CIM namespace."""
    uri, name = xml.namespace_of(tag), xml.local_name(tag)
    if name == "XmlFragment":
        return None, None
    if not uri.lower().startswith(PREFIX):
        return None, name or None
    return uri[len(PREFIX):].rpartition("/")[0] or None, name


def _instance(node: Element, namespace: str, class_name: str, nesting: int) -> Instance:
    values: dict[str, RawValue] = {}
    arrays: dict[str, list[RawValue]] = {}
    for one in node:
        tag = one.tag
        if not isinstance(tag, str):
            continue
        name = tag.rpartition("}")[2]
        if name == "Location" and tag == _LOCATION:
            continue  # wire 10, C6
        text_value = one.text
        value: RawValue
        if len(one):
            value = _value(one, namespace, nesting)
        elif text_value is not None:
            value = text_value
        else:  # most properties of most classes are nil
            value = None if one.attrib.get(_NIL) in _TRUE else _value(one, namespace, nesting)
        if name not in values:
            values[name] = value
        elif name in arrays:
            arrays[name].append(value)
        else:
            arrays[name] = [values[name], value]
    for name, collected in arrays.items():
        values[name] = tuple(collected)
    return Instance(namespace, class_name, values)


def _value(node: Element, namespace: str, nesting: int) -> RawValue:
    if node.attrib.get(_NIL) in _TRUE:
        return None
    if not len(node):
        return Instance(namespace, _class_of_type(node), {}) if _class_of_type(node) else node.text or ""
    first = xml.local_name(node[0].tag)
    if len(node) == 1 and first in ("Datetime", "Interval", "Date", "Time"):
        return _moment(first, (node[0].text or "").strip())
    if first in ("Address", "ReferenceParameters", "EndpointReference"):
        return decode_reference(node)
    if nesting <= 0:
        raise ProtocolError("An instance of an answer is nested too deeply.")
    own_namespace, _unused = _names(node[0].tag)
    inner = own_namespace or namespace
    uri = xml.namespace_of(node[0].tag)
    class_name = uri.rpartition("/")[2] if uri.lower().startswith(PREFIX) else _class_of_type(node)
    return _instance(node, inner, class_name, nesting - 1)


def _class_of_type(node: Element) -> str:
    """``q:Msvm_X_Type`` names the class of an embedded object (wire 3.2)."""
    declared = node.attrib.get(_TYPE, "").rpartition(":")[2]
    return declared[:-len("_Type")] if declared.endswith("_Type") else ""


def _moment(kind: str, written: str) -> RawValue:
    """A date or an interval; what is neither stays text, for the reader of the property to complain about."""
    try:
        return datetimes.parse_interval(written) if kind == "Interval" else datetimes.parse_time(written)
    except ValueError:
        pass
    try:
        return datetimes.parse_cim(written)
    except ValueError:
        return written


def encode_input(namespace: str, class_name: str, method: str, parameters: Mapping[str, Parameter]) -> Markup:
    """The ``Method_INPUT`` element; parameters in the order given, None left out (wire 3.1, 3.2)."""
    uri = resource_uri(namespace, class_name)
    content = [part for name, value in parameters.items() for part in _parameter(f"p:{name}", value)]
    return element(f"p:{method}_INPUT", *content, xmlns__p=uri)


def _parameter(tag: str, value: Parameter) -> list[Markup]:
    if value is None:
        return []
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [part for one in value for part in _parameter(tag, one)]
    if isinstance(value, Reference):
        return [element(tag, envelope.endpoint_reference(resource_uri(value.namespace, value.class_name), value.keys))]
    if isinstance(value, EmbeddedObject):
        return [_object(tag, value)]
    return [element(tag, _scalar(value))]


def _object(tag: str, value: EmbeddedObject) -> Markup:
    content = [part for name, one in value.values.items() for part in _parameter(f"q:{name}", one)]
    return element(tag, *content, xmlns__q=resource_uri(value.namespace, value.class_name), xsi__type=f"q:{value.class_name}_Type")


def _scalar(value: str | bool | int | datetime | timedelta | EmbeddedText) -> Markup:
    if isinstance(value, bool):
        return text("true" if value else "false")
    if isinstance(value, int):
        return text(str(value))
    if isinstance(value, datetime):
        return element("cim:Datetime", text(datetimes.format_time(value)))
    if isinstance(value, timedelta):
        return element("cim:Interval", text(datetimes.format_interval(value)))
    if isinstance(value, EmbeddedText):
        return text(cimxml.format_instance(value))
    return text(value)
