# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The registered providers of one host, and reading from them: every instance that comes out was held against the schema."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from .definitions import ClassDef, PropertyDef
from .errors import ProviderRefusal, SimulatorBug
from .model import Caller, CimError, CimValue, Instance, Ref
from .paths import parse_object_path
from .provider import ClassProvider
from .schema import Schema
from .validation import InstanceValidator
from .values import INTEGER_RANGES, key_text, parse_integer
from .wql_match import reference_of


class InstanceStore:
    """Which class is served by which provider."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.validator = InstanceValidator(schema)
        self._providers: dict[tuple[str, str], tuple[ClassDef, ClassProvider]] = {}
        self._serving: dict[ClassDef, list[tuple[ClassDef, ClassProvider]]] = {}
        self._associations: dict[tuple[str, str | None], list[tuple[ClassDef, ClassProvider]]] = {}

    def add(self, definition: ClassDef, provider: ClassProvider) -> None:
        """Serve a class; SimulatorBug when it is served already."""
        at = _key(definition)
        if at in self._providers:
            raise SimulatorBug(f"{definition.namespace}:{definition.name} is registered twice")
        self._providers[at] = (definition, provider)
        self._serving.clear()
        self._associations.clear()

    def provider(self, definition: ClassDef) -> ClassProvider | None:
        """The provider of exactly this class."""
        found = self._providers.get(_key(definition))
        return None if found is None else found[1]

    def serving(self, definition: ClassDef) -> list[tuple[ClassDef, ClassProvider]]:
        """The class and its subclasses, as far as they have providers."""
        if definition not in self._serving:
            namespace = definition.namespace.lower()
            names = (definition.name, *self.schema.subclasses(namespace, definition.name))
            found = (self._providers.get((namespace, name.lower())) for name in names)
            self._serving[definition] = [entry for entry in found if entry is not None]
        return self._serving[definition]

    def associations(self, namespace: str, class_name: str | None) -> list[tuple[ClassDef, ClassProvider]]:
        """Association classes with providers: those that derive from ``class_name`` (``invalid_class`` when there is none), or all."""
        at = namespace.lower(), None if class_name is None else class_name.lower()
        if at not in self._associations:
            if class_name is None:
                found = [entry for (space, _unused), entry in self._providers.items() if space == at[0]]
            else:
                found = self.serving(self.schema.get(namespace, class_name))
            self._associations[at] = [entry for entry in found if entry[0].association]
        return self._associations[at]

    def rows(self, definition: ClassDef, provider: ClassProvider, caller: Caller,
             conditions: Mapping[str, CimValue] | None = None) -> Iterator[Instance]:
        """Instances of one class. With ``conditions`` the provider may leave out what does not fulfil them; the caller still filters."""
        found: Iterable[Instance] | None = None
        if conditions:
            found = self._by_keys(definition, provider, caller, conditions)
            where: Callable[..., Iterable[Instance] | None] | None = getattr(provider, "where", None)
            if found is None and where is not None:
                found = where(conditions, caller)
        for instance in provider.instances(caller) if found is None else found:
            yield self.checked(definition, instance)

    def all(self, definition: ClassDef, caller: Caller, conditions: Mapping[str, CimValue] | None = None) -> Iterator[Instance]:
        """Instances of the class and its subclasses."""
        for served, provider in self.serving(definition):
            yield from self.rows(served, provider, caller, conditions)

    def find(self, definition: ClassDef, keys: Mapping[str, str], caller: Caller) -> list[Instance]:
        """Instances whose keys have these texts (letter case ignored); ``keys`` may be some of the keys, spelled as in the schema."""
        conditions = _typed(definition, keys)
        if conditions is None:
            return []
        return [instance for instance in self.all(definition, caller, conditions) if self._has_keys(instance, keys)]

    def checked(self, definition: ClassDef, instance: Instance) -> Instance:
        """The instance, after it was held against the schema; SimulatorBug when it is not of exactly this class."""
        if self.validator.check(instance) is not definition:
            raise SimulatorBug(f"the provider of {definition.name} gave an instance of {instance.namespace}:{instance.class_name}")
        return instance

    def reference(self, instance: Instance) -> Ref:
        """The reference of an instance."""
        return reference_of(self.schema.get(instance.namespace, instance.class_name), instance)

    def _by_keys(self, definition: ClassDef, provider: ClassProvider, caller: Caller,
                 conditions: Mapping[str, CimValue]) -> Iterable[Instance] | None:
        get: Callable[..., Instance | None] | None = getattr(provider, "get", None)
        if get is None or not definition.keys or not all(isinstance(conditions.get(key), str | int) for key in definition.keys):
            return None
        found = get({key: key_text(conditions[key]) for key in definition.keys}, caller)
        return () if found is None else (found,)

    def _has_keys(self, instance: Instance, keys: Mapping[str, str]) -> bool:
        for name, text in keys.items():
            value = instance.values.get(name)
            if isinstance(value, Ref):
                if _as_reference(text, instance.namespace) != value:
                    return False
            elif value is None or key_text(value).lower() != text.lower():
                return False
        return True


def _key(definition: ClassDef) -> tuple[str, str]:
    return definition.namespace.lower(), definition.name.lower()


def _typed(definition: ClassDef, keys: Mapping[str, str]) -> dict[str, CimValue] | None:
    """Keys as values to look up; None when a text cannot be a value of its key, so that nothing can be found."""
    typed: dict[str, CimValue] = {}
    for name, text in keys.items():
        prop = definition.properties[name]
        try:
            value = _typed_key(prop, text, definition.namespace)
        except (ValueError, ProviderRefusal):
            return None
        if value is not None:
            typed[name] = value
    return typed


def _typed_key(prop: PropertyDef, text: str, namespace: str) -> Any:
    if prop.type == "string":
        return text
    if prop.type in INTEGER_RANGES:
        return parse_integer(prop.type, text)
    if prop.type == "reference":
        return parse_object_path(text, namespace=namespace)
    return None  # booleans and times as keys are compared as text


def _as_reference(text: str, namespace: str) -> Ref | None:
    try:
        return parse_object_path(text, namespace=namespace)
    except ProviderRefusal:
        return None


def key_selectors(definition: ClassDef, pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Selectors of a request by the schema's names of the keys (wire 1.2, 1.4).

    CimError ``invalid_selectors`` for one given twice or that is no key. ``__cimnamespace`` is passed over when it says the namespace
    of the URI, and ends as an internal error otherwise (wire 1.1).
    """
    found: dict[str, str] = {}
    for name, text in pairs:
        if name.lower() == "__cimnamespace":
            if text.replace("\\", "/").lower() != definition.namespace.lower():
                raise CimError("failed", "the resource URI and the selector __cimnamespace name different namespaces")
            continue
        prop = definition.find_property(name)
        if prop is None or prop.name not in definition.keys:
            raise CimError("invalid_selectors", f"{name} is no key of {definition.name}")
        if prop.name in found:
            raise CimError("invalid_selectors", f"the selector {name} is given more than once")
        found[prop.name] = text
    return found
