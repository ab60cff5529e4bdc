# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look-ups in the generated table of schema facts, without case."""
from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from ansible_collections.agentless.hyperv.plugins.module_utils.cim import schema_facts
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.types import (
    EmbeddedText,
    Instance,
    Parameter,
    Property,
    PropertyValue,
    Reference,
)

_KEYS = ("CreationClassName", "SystemCreationClassName", "SystemName")


@cache
def _readings() -> frozenset[tuple[str, str]]:
    return frozenset((class_name.lower(), method.lower()) for class_name, methods in schema_facts.READING.items()
                     for method in methods.split())


@cache
def _orders() -> Mapping[tuple[str, str], tuple[str, ...]]:
    return {(class_name.lower(), method.lower()): tuple(names.split())
            for class_name, methods in schema_facts.PARAMETERS.items() for method, names in methods.items()}


@cache
def _types(class_name: str) -> Mapping[str, tuple[str, str]]:
    """Lower-case property name to its spelling and its type."""
    for known, types in schema_facts.PROPERTIES.items():
        if known.lower() == class_name:
            return {name.lower(): (name, cim_type) for cim_type, names in types.items() for name in names.split()}
    return {}


def only_reads(class_name: str, method: str) -> bool:
    """True when the method is known to change nothing (operations 0.9). Jobs of every class have the same error methods."""
    name = class_name.lower()
    if name.startswith("msvm_") and name.endswith("job"):
        name = "msvm_concretejob"
    return (name, method.lower()) in _readings()


def in_order(class_name: str, method: str, parameters: Mapping[str, Parameter]) -> dict[str, Parameter]:
    """Parameters in the order of the declaration, under its spelling (wire 3.2); as given when the method is not in the table.

    Raises ValueError for a parameter that the method does not have.
    """
    order = _orders().get((class_name.lower(), method.lower()))
    if order is None:
        return dict(parameters)
    given = {name.lower(): value for name, value in parameters.items()}
    unknown = sorted(set(given) - {name.lower() for name in order})
    if unknown:
        raise ValueError(f"{class_name}.{method} has no parameter {', '.join(unknown)}")
    return {name: given[name.lower()] for name in order if name.lower() in given}


def embedded(class_name: str, values: Mapping[str, PropertyValue]) -> EmbeddedText:
    """An embedded instance with the types of the schema: send the key and what changes, nothing else (wire 3.3).

    Raises ValueError for a class or a property that the table does not have, and for a scalar where an array belongs.
    """
    types = _types(class_name.lower())
    properties = []
    for name, value in values.items():
        if name.lower() not in types:
            raise ValueError(f"{class_name}.{name} is not in the table of schema facts")
        spelling, cim_type = types[name.lower()]
        if value is not None and cim_type.endswith("[]") != isinstance(value, tuple):
            raise ValueError(f"{class_name}.{name} is {cim_type}: a scalar and an array cannot stand for each other")
        properties.append(Property(spelling, cim_type.removesuffix("[]"), value))
    return EmbeddedText(class_name, properties)


def has_property(class_name: str, name: str) -> bool:
    """True when the table has the property."""
    return name.lower() in _types(class_name.lower())


def reference_of(instance: Instance) -> Reference:
    """The address of an instance by the key rules of the Hyper-V classes (schema notes, Keys). Raises ValueError without keys.

    Setting data, jobs and pools have InstanceID; systems CreationClassName and Name; services and devices also the two names of
    their system, and devices DeviceID instead of Name.
    """
    own = instance.text("CreationClassName") if "CreationClassName" in instance else None
    if own:
        names = [name for name in _KEYS if instance.raw(name) is not None]
        names.append("DeviceID" if instance.raw("DeviceID") is not None else "Name")
    elif instance.raw("InstanceID") is not None:
        names = ["InstanceID"]
    else:
        raise ValueError(f"no keys are known for an instance of {instance.class_name}")
    return Reference(instance.namespace, instance.class_name, {name: instance.required_text(name) for name in names})
