# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What providers give is held against the schema: a name or a type that Windows does not have is a bug of the simulator."""
from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from .definitions import ClassDef, MethodDef, ParameterDef, PropertyDef
from .errors import SimulatorBug
from .model import CimValue, Instance, Ref
from .schema import Schema
from .values import INTEGER_RANGES, REALS

_PLAIN: Final = {"string": str, "boolean": bool}


class InstanceValidator:
    """Checks instances against one release's schema."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._fast: dict[ClassDef, Mapping[str, tuple[type, int, int]]] = {}

    def check(self, instance: Instance, *, keys: bool = True) -> ClassDef:
        """Raise SimulatorBug unless every value belongs to the class and has the Python type of its CIM type.

        ``keys``: every key must have a value (false for embedded instances). Values under names with a dot, such as
        ``PrivateProperties.VmID``, are for queries only and not checked; properties of other releases are passed over.
        """
        definition = self._schema.find(instance.namespace, instance.class_name)
        if definition is None or definition.name != instance.class_name:
            raise SimulatorBug(f"{instance.namespace}:{instance.class_name} is no class of Windows Server {self._schema.os_version}")
        fast = self._fast.get(definition)
        if fast is None:
            fast = self._fast[definition] = _fast_checks(definition)
        for name, value in instance.values.items():
            if value is None:
                continue
            plain = fast.get(name)
            # the exact type, since a bool is an int in Python  # pylint: disable-next=unidiomatic-typecheck
            if plain is not None and type(value) is plain[0] and (plain[0] is not int or plain[1] <= value <= plain[2]):  # type: ignore[operator]
                continue  # the usual case, made cheap: hosts with a thousand machines are enumerated all the time
            self._check_slowly(definition, name, value)
        if keys:
            for key in definition.keys:
                if instance.values.get(key) is None:
                    raise SimulatorBug(f"{definition.name}: the key {key} is null")
        return definition

    def check_parameters(self, definition: ClassDef, method: MethodDef, given: Mapping[str, CimValue]) -> None:
        """In parameters, which the decoder of requests has typed already."""
        for param in method.parameters:
            value = given.get(param.name)
            if value is not None:
                self._check_member(f"{definition.name}.{method.name}.{param.name}", definition.namespace, param, value, known=False)

    def check_outcome(self, definition: ClassDef, method: MethodDef, outcome: Mapping[str, CimValue]) -> None:
        """The same for what a method returns."""
        outputs = {param.name: param for param in method.outputs}
        for name, value in outcome.items():
            if name not in outputs:
                raise SimulatorBug(f"{definition.name}.{method.name} has no out parameter {name}")
            if value is not None:
                self._check_member(f"{definition.name}.{method.name}.{name}", definition.namespace, outputs[name], value)
        if method.returns != "void" and outcome.get("ReturnValue") is None:
            raise SimulatorBug(f"{definition.name}.{method.name} returned no ReturnValue")

    def _check_slowly(self, definition: ClassDef, name: str, value: CimValue) -> None:
        member = definition.properties.get(name)
        if member is not None:
            self._check_member(f"{definition.name}.{name}", definition.namespace, member, value)
        elif "." in name:
            prefix = definition.properties.get(name.partition(".")[0])
            if prefix is None or prefix.type != "object":
                raise SimulatorBug(f"{definition.name}: {name} does not belong to an embedded object")
        elif name not in definition.hidden_properties:
            raise SimulatorBug(f"{definition.name} has no property {name}")

    def _check_member(self, where: str, namespace: str, member: PropertyDef | ParameterDef, value: CimValue, *, known: bool = True) -> None:
        """``known``: references must name classes of the schema; what a client sends may name anything."""
        if not member.array:
            self._check_one(where, namespace, member, value, known)
            return
        if not isinstance(value, list):
            raise SimulatorBug(f"{where} is an array, not {type(value).__name__}")
        for item in value:
            if item is not None:
                self._check_one(where, namespace, member, item, known)

    def _check_one(self, where: str, namespace: str, member: PropertyDef | ParameterDef, value: CimValue, known: bool) -> None:
        if member.type == "reference":
            if not isinstance(value, Ref) or (known and self._schema.find(value.namespace, value.class_name) is None):
                raise SimulatorBug(f"{where} must be a Ref to a class of the schema, not {value!r}")
        elif member.type == "object" or (member.embedded is not None and isinstance(value, Instance)):
            if not isinstance(value, Instance):
                raise SimulatorBug(f"{where} must be an Instance, not {value!r}")
            self._check_embedded(where, namespace, member.embedded, value)
        elif not _is_scalar(member.type, value):
            raise SimulatorBug(f"{where} has type {member.type}, which {value!r} is not")

    def _check_embedded(self, where: str, namespace: str, wanted: str | None, value: Instance) -> None:
        found = self.check(value, keys=False)
        known = wanted is not None and self._schema.find(namespace, wanted) is not None
        if known and not found.is_a(str(wanted)):
            raise SimulatorBug(f"{where} embeds {wanted}, which {found.name} is not")


def _is_scalar(cim_type: str, value: CimValue) -> bool:
    if cim_type in INTEGER_RANGES:
        low, high = INTEGER_RANGES[cim_type]
        return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
    if cim_type in REALS:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if cim_type == "datetime":
        if isinstance(value, datetime):
            return value.tzinfo is not None
        return isinstance(value, timedelta) and value >= timedelta(0)
    if cim_type == "char16":
        return isinstance(value, str) and len(value) == 1
    return isinstance(value, _PLAIN[cim_type])


def _fast_checks(definition: ClassDef) -> Mapping[str, tuple[type, int, int]]:
    checks: dict[str, tuple[type, int, int]] = {}
    for name, prop in definition.properties.items():
        if prop.array:
            continue
        if prop.type in _PLAIN:
            checks[name] = (_PLAIN[prop.type], 0, 0)
        elif prop.type in INTEGER_RANGES:
            checks[name] = (int, *INTEGER_RANGES[prop.type])
    return checks
