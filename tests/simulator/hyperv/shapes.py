# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Instances of a class as one release of Windows has it: what other releases have is left out, what none has is a mistake."""
from __future__ import annotations

from simulator.cim.errors import SimulatorBug
from simulator.cim.model import CimValue, Instance
from simulator.cim.schema import ClassDef, Schema


class Shape:
    """Makes instances of one class."""

    def __init__(self, definition: ClassDef) -> None:
        self.namespace = definition.namespace
        self.class_name = definition.name
        self._properties = definition.properties
        self._hidden = tuple(definition.hidden_properties)
        self._checked: set[int] = set()

    def __call__(self, values: dict[str, CimValue]) -> Instance:
        """An instance; takes over ``values``. SimulatorBug: a property that Windows has in no release."""
        for name in self._hidden:
            values.pop(name, None)
        if len(values) not in self._checked:  # rows of one table have one form, so looking at each length once is enough
            unknown = [name for name in values if name not in self._properties and "." not in name]
            if unknown:
                raise SimulatorBug(f"{self.class_name} has no {', '.join(unknown)}")
            self._checked.add(len(values))
        return Instance(self.namespace, self.class_name, values)


class Shapes:
    """The shapes of one host."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self._known: dict[tuple[str, str], Shape] = {}

    def has(self, namespace: str, class_name: str) -> bool:
        """Whether the release has the class."""
        return self.schema.find(namespace, class_name) is not None

    def of(self, namespace: str, class_name: str) -> Shape:
        """The shape of a class. CimError: the release has none of that name."""
        key = namespace.lower(), class_name.lower()
        shape = self._known.get(key)
        if shape is None:
            shape = self._known[key] = Shape(self.schema.get(namespace, class_name))
        return shape
