# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The CIM repository of one simulated host: classes of the schema, served by registered providers."""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from .model import Caller, CimValue, Instance, Ref
from .provider import ClassProvider, Invocation, MethodHandler, MethodOutcome
from .schema import ParameterDef, Schema

__all__ = ["ClassProvider", "Invocation", "MethodHandler", "MethodOutcome", "QueryResult", "Repository", "Selectors"]

Selectors: TypeAlias = Mapping[str, str] | Sequence[tuple[str, str]]
"""As they came: a sequence of pairs lets duplicates be seen."""


@dataclass(frozen=True)
class QueryResult:
    """``columns`` None: whole instances (``SELECT *``); otherwise a projection, encoded as ``w:XmlFragment`` (wire 2.5)."""

    instances: list[Instance]
    columns: tuple[str, ...] | None = None


class Repository:
    """All of it raises :class:`simulator.cim.model.CimError`. (Signatures first; the bodies follow.)"""

    def __init__(self, schema: Schema, os_version: str) -> None:
        self.schema = schema.for_os(os_version)
        self.os_version = os_version

    def register(self, namespace: str, class_name: str, provider: ClassProvider) -> None:
        """Serve a class; refuses (SimulatorBug) what the schema of this release lacks."""
        raise NotImplementedError

    def knows(self, namespace: str, class_name: str) -> bool:
        """Whether the schema of this release has the class: ask before registering something newer than 2012 R2."""
        raise NotImplementedError

    def guard(self, namespace: str, check: Callable[[Caller], bool]) -> None:
        """Access rule of a namespace; a refusal is ``access_denied``."""
        raise NotImplementedError

    def enumerate(self, namespace: str, class_name: str, caller: Caller) -> list[Instance]:
        """Instances of the class and its subclasses."""
        raise NotImplementedError

    def query(self, namespace: str, wql: str, caller: Caller) -> QueryResult:
        """A WQL query."""
        raise NotImplementedError

    def selector_filter(self, namespace: str, class_name: str, selectors: Selectors, caller: Caller) -> list[Instance]:
        """The SelectorFilter dialect (wire 2.4)."""
        raise NotImplementedError

    def associated(self, namespace: str, ref: Ref, caller: Caller, *, association: str | None = None, result: str | None = None,
                   role: str | None = None, result_role: str | None = None) -> list[Instance]:
        """ASSOCIATORS OF and ``b:AssociatedInstances``."""
        raise NotImplementedError

    def association_instances(self, namespace: str, ref: Ref, caller: Caller, *, result: str | None = None,
                              role: str | None = None) -> list[Instance]:
        """REFERENCES OF and ``b:AssociationInstances``."""
        raise NotImplementedError

    def get(self, namespace: str, class_name: str, selectors: Selectors, caller: Caller) -> Instance:
        """One instance; all keys are needed (wire 1.4)."""
        raise NotImplementedError

    def invoke(self, namespace: str, class_name: str, selectors: Selectors, method: str, parameters: Mapping[str, CimValue],
               caller: Caller) -> list[tuple[ParameterDef, CimValue]]:
        """Call a method; out parameters in the order of the schema, ReturnValue last."""
        raise NotImplementedError

    def delete(self, namespace: str, class_name: str, selectors: Selectors, caller: Caller) -> None:
        """DeleteInstance."""
        raise NotImplementedError

    def resolve(self, ref: Ref, caller: Caller) -> Instance:
        """The instance that a reference parameter of a method means; some keys are enough (wire 1.4).

        Raises ProviderRefusal 32773 for a non-key, an unknown or an ambiguous reference.
        """
        raise NotImplementedError

    def reference(self, instance: Instance) -> Ref:
        """The reference of an instance: its keys as text."""
        raise NotImplementedError
