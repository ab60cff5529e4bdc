# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Definitions of classes, properties, methods and parameters, as the rest of the simulator sees them."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

CLASS_URI_PREFIX = "http://schemas.microsoft.com/wbem/wsman/1/wmi/"
"""Wire 1.1: the URI of a class is also the XML namespace of its instances."""


@dataclass(frozen=True, slots=True)
class PropertyDef:
    """One property of a class. ``type`` is the CIM type in lower case, ``reference`` or ``object``.

    ``embedded``: the class of an embedded instance; with type ``string`` it travels as CIM-XML text, with ``object`` as elements.
    ``origin``: the class that declares it. ``values``: names of the numbers of an enumeration.
    """

    name: str
    type: str
    array: bool = False
    key: bool = False
    ref: str | None = None
    embedded: str | None = None
    origin: str = ""
    read_only: bool = True
    values: Mapping[int, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class ParameterDef:
    """One parameter of a method, or its ``ReturnValue``."""

    name: str
    type: str
    array: bool = False
    ref: str | None = None
    embedded: str | None = None
    is_in: bool = False
    is_out: bool = False
    optional: bool = False
    values: Mapping[int, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class MethodDef:
    """One method. ``returns`` is a CIM type or ``void``; ``parameters`` keep the order of the MOF."""

    name: str
    parameters: tuple[ParameterDef, ...]
    returns: str
    static: bool
    origin: str
    return_values: Mapping[int, str] = field(default_factory=dict, repr=False)

    def input(self, name: str) -> ParameterDef | None:
        """An in (or in/out) parameter by its name, letter case ignored."""
        wanted = name.lower()
        return next((p for p in self.parameters if p.is_in and p.name.lower() == wanted), None)

    @property
    def outputs(self) -> tuple[ParameterDef, ...]:
        """Out parameters in MOF order, then ReturnValue unless the method returns nothing."""
        outs = tuple(p for p in self.parameters if p.is_out)
        if self.returns == "void":
            return outs
        return (*outs, ParameterDef("ReturnValue", self.returns, is_out=True))


@dataclass(eq=False)
class ClassDef:
    """One class as one release of Windows has it. Compared by identity: a Schema builds each class once."""

    namespace: str
    name: str
    superclass: str | None
    ancestors: tuple[str, ...]
    """The class itself, its superclass, and so on; the last may be a class that the sources only mention."""
    keys: tuple[str, ...]
    abstract: bool
    properties: Mapping[str, PropertyDef]
    """By the exact name."""
    methods: Mapping[str, MethodDef]
    """By the exact name."""
    singleton: bool = False
    """A Get needs no selectors."""
    hidden_properties: frozenset[str] = frozenset()
    """Properties that only other releases have; what a provider gives for them is dropped."""

    def find_property(self, name: str) -> PropertyDef | None:
        """A property by its name, letter case ignored."""
        return self.properties.get(name) or self._folded_properties.get(name.lower())

    def find_method(self, name: str) -> MethodDef | None:
        """A method by its name, letter case ignored."""
        return self.methods.get(name) or self._folded_methods.get(name.lower())

    def is_a(self, ancestor: str) -> bool:
        """Whether the class is ``ancestor`` or derives from it."""
        return ancestor.lower() in self._folded_ancestors

    @property
    def association(self) -> bool:
        """Whether the class links other instances: its keys are references (or it has no keys, but references)."""
        if not self.references:
            return False
        return not self.keys or any(self.properties[key].type == "reference" for key in self.keys)

    @cached_property
    def references(self) -> tuple[PropertyDef, ...]:
        """The reference properties (roles, when it is an association)."""
        return tuple(prop for prop in self.properties.values() if prop.type == "reference")

    @cached_property
    def ordered(self) -> tuple[PropertyDef, ...]:
        """All properties in the order of the wire: by name, letter case ignored (wire 2.5)."""
        return tuple(sorted(self.properties.values(), key=lambda prop: prop.name.lower()))

    @cached_property
    def uri(self) -> str:
        """The resource URI, which is the XML namespace, too (wire 1.1)."""
        return f"{CLASS_URI_PREFIX}{self.namespace}/{self.name}"

    @cached_property
    def _folded_properties(self) -> dict[str, PropertyDef]:
        return {name.lower(): prop for name, prop in self.properties.items()}

    @cached_property
    def _folded_methods(self) -> dict[str, MethodDef]:
        return {name.lower(): method for name, method in self.methods.items()}

    @cached_property
    def _folded_ancestors(self) -> frozenset[str]:
        return frozenset(name.lower() for name in self.ancestors)
