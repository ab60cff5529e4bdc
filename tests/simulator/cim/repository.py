# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The CIM repository of one simulated host: classes of the schema, served by registered providers."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from . import wql, wql_match
from .associations import AssociationFilter, AssociationWalker
from .definitions import ClassDef, MethodDef, ParameterDef
from .errors import ProviderRefusal, SimulatorBug
from .model import Caller, CimError, CimValue, Instance, Ref
from .provider import ClassProvider, Invocation, MethodHandler, MethodOutcome
from .schema import Schema
from .store import InstanceStore, key_selectors

__all__ = ["ClassProvider", "Invocation", "MethodHandler", "MethodOutcome", "QueryResult", "Repository", "Selectors"]

Selectors: TypeAlias = Mapping[str, str] | Sequence[tuple[str, str]]
"""As they came: a sequence of pairs lets duplicates be seen."""

WBEM_E_INVALID_METHOD_PARAMETERS: Final = 0x8004102F
WBEM_E_METHOD_NOT_IMPLEMENTED: Final = 0x80041055
WBEM_E_PROVIDER_NOT_CAPABLE: Final = 0x80041024
INVALID_PARAMETER: Final = 32773

# Wire 1.4: what these services answer to a method without selectors; every other class is taken to answer as the management service does.
_INTERNAL_ERROR_WITHOUT_SELECTORS: Final = frozenset({"Msvm_ImageManagementService", "Msvm_VirtualEthernetSwitchManagementService"})


_NO_FILTER: Final = frozenset({"datetime", "reference", "object"})
"""Types that the SelectorFilter dialect cannot compare (wire 2.4)."""


@dataclass(frozen=True)
class QueryResult:
    """``columns`` None: whole instances (``SELECT *``); otherwise a projection, encoded as ``w:XmlFragment`` (wire 2.5)."""

    instances: list[Instance]
    columns: tuple[str, ...] | None = None


class Repository:
    """All instances of one host. Refusals are :class:`simulator.cim.model.CimError`; a provider's mistake is SimulatorBug.

    A namespace exists as soon as a class in it is registered (or by :meth:`add_namespace`): a host without the failover-cluster role
    has no ``root/MSCluster`` and answers ``invalid_namespace``. ``root`` and ``root/cimv2`` always exist.
    """

    def __init__(self, schema: Schema, os_version: str) -> None:
        self.schema = schema.for_os(os_version)
        self.os_version = os_version
        self._store = InstanceStore(self.schema)
        self._namespaces: dict[str, str] = {}
        self._guards: dict[str, list[Callable[[Caller], bool]]] = {}
        self.add_namespace("root/cimv2")

    def add_namespace(self, namespace: str) -> None:
        """Make a namespace and those above it exist, even if nothing is registered in it."""
        parts = self.schema.namespace(namespace).split("/")
        for length in range(1, len(parts) + 1):
            name = "/".join(parts[:length])
            if name.lower() not in self._namespaces:
                self._namespaces[name.lower()] = name
                self._store.add(self.schema.get(name, "__NAMESPACE"), _ChildNamespaces(name, self._namespaces))

    def register(self, namespace: str, class_name: str, provider: ClassProvider) -> None:
        """Serve a class.

        SimulatorBug when the schema of this release has no such class (ask :meth:`knows` first), when the class is abstract or
        registered already, or when ``provider.methods`` names a method that the class has in no release.
        """
        definition = self.schema.find(namespace, class_name)
        if definition is None:
            raise SimulatorBug(f"Windows Server {self.os_version} has no class {namespace}:{class_name}")
        if definition.abstract:
            raise SimulatorBug(f"{definition.name} is abstract and has no instances of its own")
        anywhere = self.schema.base.get(namespace, class_name)
        for method in _handlers(provider):
            if method not in anywhere.methods:
                raise SimulatorBug(f"{definition.name} has no method {method}")
        self.add_namespace(namespace)
        self._store.add(definition, provider)

    def knows(self, namespace: str, class_name: str) -> bool:
        """Whether the schema of this release has the class: ask before registering something newer than 2012 R2."""
        return self.schema.find(namespace, class_name) is not None

    def guard(self, namespace: str, check: Callable[[Caller], bool]) -> None:
        """Access rule of a namespace; whoever does not pass gets ``access_denied``, never an empty answer."""
        self._guards.setdefault(self.schema.namespace(namespace).lower(), []).append(check)

    def has_namespace(self, namespace: str) -> bool:
        """Whether the host has the namespace."""
        return self.schema.namespace(namespace).lower() in self._namespaces

    def enumerate(self, namespace: str, class_name: str, caller: Caller) -> list[Instance]:
        """Instances of the class and its subclasses (wire 2.6)."""
        definition = self.schema.get(self.open_namespace(namespace, caller), class_name)
        return list(self._store.all(definition, caller))

    def query(self, namespace: str, query: str, caller: Caller) -> QueryResult:
        """Instances that a WQL query selects.

        ``invalid_query`` for bad WQL, unknown properties and wrong types; ``invalid_class``; ``not_found`` when the object of
        ASSOCIATORS OF does not exist; ``cannot_process_filter`` for clauses that ask for class definitions or qualifiers.
        """
        opened = self.open_namespace(namespace, caller)
        tree = wql.parse(query, opened)
        if isinstance(tree, wql.Select):
            return self._select(opened, tree, caller)
        unusual = [clause for clause in tree.unusual if clause != "keysonly"]
        if unusual:
            raise CimError("cannot_process_filter", f"{', '.join(unusual)} cannot be answered as instances")
        walker = AssociationWalker(self._store, opened, tree.source, caller)
        if isinstance(tree, wql.References):
            return QueryResult(walker.links(AssociationFilter(result=tree.result, role=tree.role)))
        return QueryResult(walker.associated(AssociationFilter(tree.association, tree.result, tree.role, tree.result_role)))

    def selector_filter(self, namespace: str, class_name: str, selectors: Selectors, caller: Caller) -> list[Instance]:
        """The SelectorFilter dialect: equality of every selector (wire 2.4).

        ``cannot_process_filter`` for an unknown or repeated name, an array, datetime, reference or object, and for a quote in a value.
        """
        definition = self.schema.get(self.open_namespace(namespace, caller), class_name)
        terms = _selector_terms(definition, selectors)
        if not terms:
            return list(self._store.all(definition, caller))
        condition = wql.All(tuple(terms))
        try:
            matches = wql_match.compile_condition(self.schema, definition, condition)
            conditions = wql_match.equalities(definition, condition)
        except wql.InvalidQuery as error:
            raise CimError("cannot_process_filter", error.message) from error
        return [instance for instance in self._store.all(definition, caller, conditions) if matches(instance)]

    def associated(self, namespace: str, ref: Ref, caller: Caller, *, association: str | None = None, result: str | None = None,
                   role: str | None = None, result_role: str | None = None) -> list[Instance]:
        """The association filter ``b:AssociatedInstances``; same as ASSOCIATORS OF (wire 2.4)."""
        walker = AssociationWalker(self._store, self.open_namespace(namespace, caller), ref, caller)
        return walker.associated(AssociationFilter(association, result, role, result_role))

    def association_instances(self, namespace: str, ref: Ref, caller: Caller, *, result: str | None = None,
                              role: str | None = None) -> list[Instance]:
        """The association filter ``b:AssociationInstances``; same as REFERENCES OF (wire 2.4)."""
        walker = AssociationWalker(self._store, self.open_namespace(namespace, caller), ref, caller)
        return walker.links(AssociationFilter(result=result, role=role))

    def get(self, namespace: str, class_name: str, selectors: Selectors, caller: Caller) -> Instance:
        """One instance; every key is needed (wire 1.4).

        ``not_found`` when some keys are missing or nothing has them, ``insufficient_selectors`` without any for a class that has keys,
        ``invalid_selectors`` for a non-key or a repeated one.
        """
        definition = self.schema.get(self.open_namespace(namespace, caller), class_name)
        return self._exact(definition, selectors, caller)

    def invoke(self, namespace: str, class_name: str, selectors: Selectors, method: str, parameters: Mapping[str, CimValue],
               caller: Caller) -> list[tuple[ParameterDef, CimValue]]:
        """Call a method; all its out parameters in the order of the schema (null ones too), ReturnValue last.

        An instance method needs selectors that identify one instance; some of the keys are enough (wire 1.4). ``method_not_found``,
        ``schema_validation`` for an unknown parameter, ``invalid_selectors``, ``insufficient_selectors`` (several instances),
        ``not_found``, and without selectors the errors of wire 1.4. Where the simulator has no code for a method that Windows has:
        ``not_supported`` with WBEM_E_METHOD_NOT_IMPLEMENTED. A ProviderRefusal that the method lets out becomes its ReturnValue.
        """
        definition = self.schema.get(self.open_namespace(namespace, caller), class_name)
        found = definition.find_method(method)
        if found is None:
            raise CimError("method_not_found", f"{definition.name} has no method {method}")
        instance = None
        if not found.static:
            instance = self._target(definition, selectors, caller)
            definition = self.schema.get(instance.namespace, instance.class_name)
            found = definition.find_method(method) or found
        else:
            key_selectors(definition, _pairs(selectors))
        given = self._parameters(definition, found, parameters)
        return self._call(definition, found, Invocation(caller, instance, given, definition.name, found.name))

    def delete(self, namespace: str, class_name: str, selectors: Selectors, caller: Caller) -> None:
        """DeleteInstance; keys as for :meth:`get`. ``not_supported`` when the provider does not delete."""
        definition = self.schema.get(self.open_namespace(namespace, caller), class_name)
        instance = self._exact(definition, selectors, caller)
        provider = self._store.provider(self.schema.get(instance.namespace, instance.class_name))
        delete: Callable[[Instance, Caller], None] | None = getattr(provider, "delete", None)
        if delete is None:
            raise CimError("not_supported", f"instances of {instance.class_name} cannot be deleted", hresult=WBEM_E_PROVIDER_NOT_CAPABLE)
        delete(instance, caller)

    def resolve(self, ref: Ref, caller: Caller, *, expected: str | None = None) -> Instance:
        """The instance that a reference parameter of a method means; some keys are enough (wire 1.4).

        Raises ProviderRefusal 32773 for a non-key, an unknown or an ambiguous reference, or one to another class than ``expected``.
        """
        definition = self.schema.find(ref.namespace, ref.class_name)
        if definition is None or not ref.keys:
            raise ProviderRefusal(INVALID_PARAMETER, f"{ref.namespace}:{ref.class_name} refers to nothing")
        try:
            keys = key_selectors(definition, ref.keys.items())
        except CimError as error:
            raise ProviderRefusal(INVALID_PARAMETER, error.message) from error
        found = self._store.find(definition, keys, caller)
        if len(found) != 1 or not (expected is None or self.schema.is_a(found[0].namespace, found[0].class_name, expected)):
            raise ProviderRefusal(INVALID_PARAMETER, f"a reference to {definition.name} that names {len(found)} instances")
        return found[0]

    def reference(self, instance: Instance) -> Ref:
        """The reference of an instance: its keys as text."""
        return self._store.reference(instance)

    def open_namespace(self, namespace: str, caller: Caller) -> str:
        """The spelling of a namespace that exists and lets the caller in; ``invalid_namespace`` or ``access_denied``."""
        name = self.schema.namespace(namespace)
        spelled = self._namespaces.get(name.lower())
        if spelled is None:
            raise CimError("invalid_namespace", f"the namespace {namespace} does not exist")
        if not all(check(caller) for check in self._guards.get(name.lower(), ())):
            raise CimError("access_denied", f"{caller.account.display} may not use {namespace}")
        return spelled

    def _select(self, namespace: str, tree: wql.Select, caller: Caller) -> QueryResult:
        definition = self.schema.get(namespace, tree.class_name)
        columns = None if tree.columns is None else _columns(definition, tree.columns)
        if tree.where is None:
            return QueryResult(list(self._store.all(definition, caller)), columns)
        matches = wql_match.compile_condition(self.schema, definition, tree.where)
        rows = self._store.all(definition, caller, wql_match.equalities(definition, tree.where))
        return QueryResult([instance for instance in rows if matches(instance)], columns)

    def _exact(self, definition: ClassDef, selectors: Selectors, caller: Caller) -> Instance:
        keys = key_selectors(definition, _pairs(selectors))
        if not keys and definition.keys and not definition.singleton:
            raise CimError("insufficient_selectors", f"{definition.name} needs its keys {', '.join(definition.keys)}")
        complete = not keys or set(keys) == set(definition.keys)  # some of the keys find nothing (wire 1.4)
        found = self._store.find(definition, keys, caller) if complete else []
        if len(found) != 1:
            raise CimError("not_found", f"there is no such {definition.name}")
        return found[0]

    def _target(self, definition: ClassDef, selectors: Selectors, caller: Caller) -> Instance:
        keys = key_selectors(definition, _pairs(selectors))
        if not keys and not definition.singleton:
            if definition.name in _INTERNAL_ERROR_WITHOUT_SELECTORS:
                raise CimError("failed", f"{definition.name}: a method without an instance")
            raise CimError("invalid_parameter", f"{definition.name}: a method without an instance",
                           hresult=WBEM_E_INVALID_METHOD_PARAMETERS)
        found = self._store.find(definition, keys, caller)
        if not found:
            raise CimError("not_found", f"there is no such {definition.name}")
        if len(found) > 1:
            raise CimError("insufficient_selectors", f"the selectors name {len(found)} instances of {definition.name}")
        return found[0]

    def _parameters(self, definition: ClassDef, method: MethodDef, parameters: Mapping[str, CimValue]) -> dict[str, CimValue]:
        given: dict[str, CimValue] = {}
        for name, value in parameters.items():
            param = method.input(name)
            if param is None:
                raise CimError("schema_validation", f"{definition.name}.{method.name} does not take {name}")
            given[param.name] = value
        self._store.validator.check_parameters(definition, method, given)
        return given

    def _call(self, definition: ClassDef, method: MethodDef, invocation: Invocation) -> list[tuple[ParameterDef, CimValue]]:
        provider = self._store.provider(definition)
        handler = None if provider is None else _handlers(provider).get(method.name)
        if handler is None:
            raise CimError("not_supported", f"{definition.name}.{method.name} is not implemented", hresult=WBEM_E_METHOD_NOT_IMPLEMENTED)
        try:
            outcome = handler(invocation)
        except ProviderRefusal as refusal:
            outcome = {"ReturnValue": refusal.return_value}
        self._store.validator.check_outcome(definition, method, outcome)
        return [(param, outcome.get(param.name)) for param in method.outputs]


class _ChildNamespaces:
    """``__NAMESPACE``: one instance for each namespace directly below."""

    def __init__(self, namespace: str, namespaces: Mapping[str, str]) -> None:
        self._namespace = namespace
        self._all = namespaces

    def instances(self, caller: Caller) -> Iterable[Instance]:
        """The namespaces below, whoever asks."""
        del caller
        prefix = self._namespace.lower() + "/"
        for folded, name in list(self._all.items()):
            if folded.startswith(prefix) and "/" not in folded[len(prefix):]:
                yield Instance(self._namespace, "__NAMESPACE", {"Name": name[len(prefix):]})


def _handlers(provider: ClassProvider) -> Mapping[str, MethodHandler]:
    handlers: Mapping[str, MethodHandler] = getattr(provider, "methods", {})
    return handlers


def _pairs(selectors: Selectors) -> Iterable[tuple[str, str]]:
    return selectors.items() if isinstance(selectors, Mapping) else selectors


def _columns(definition: ClassDef, names: Sequence[str]) -> tuple[str, ...]:
    columns = []
    for name in names:
        prop = definition.find_property(name)
        if prop is None:
            raise wql.InvalidQuery(f"{definition.name} has no property {name}")
        columns.append(prop.name)
    return tuple(dict.fromkeys(columns))


def _selector_terms(definition: ClassDef, selectors: Selectors) -> list[wql.Condition]:
    terms: list[wql.Condition] = []
    seen = set()
    for name, text in _pairs(selectors):
        prop = definition.find_property(name)
        if prop is None or prop.name in seen or prop.array or prop.type in _NO_FILTER or "'" in text or '"' in text:
            raise CimError("cannot_process_filter", f"the selector {name} cannot filter {definition.name}")
        seen.add(prop.name)
        terms.append(wql.Compare(prop.name, "=", text))
    return terms
