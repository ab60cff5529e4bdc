# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a provider of instances looks like to the repository."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from .model import Caller, CimValue, Instance

MethodOutcome: TypeAlias = Mapping[str, CimValue]
"""Out parameters by name, and ``ReturnValue``. A parameter that is left out is null on the wire."""


@dataclass(frozen=True)
class Invocation:
    """One call of a method.

    ``instance`` is None for static methods. ``parameters`` holds what was sent, under the names of the schema and typed by it;
    an omitted parameter is not in it, a nil one is None. An ``[EmbeddedInstance]`` string is the CIM-XML text as sent: use
    :func:`simulator.cim.cimxml.parse_instance`. ``class_name`` and ``method`` are spelled as in the schema.
    """

    caller: Caller
    instance: Instance | None
    parameters: Mapping[str, CimValue]
    class_name: str = ""
    method: str = ""

    def __getitem__(self, name: str) -> CimValue:
        return self.parameters.get(name)


MethodHandler: TypeAlias = Callable[[Invocation], MethodOutcome]


class ClassProvider(Protocol):
    """The instances (and methods) of exactly one class.

    Optional attributes, looked up with getattr:

    * ``get(keys, caller) -> Instance | None``: fast path; ``keys`` holds every key of the class under the schema's name, the text in
      the letter case of the request: compare without case, as Windows does.
    * ``where(conditions, caller) -> Iterable[Instance] | None``: fast path for equality of one or more properties (values typed,
      strings compared without case, references as Ref); may return too many, never too few; None = use ``instances()``.
    * ``delete(instance, caller) -> None``: DeleteInstance.
    * ``methods``: Mapping of method names to :data:`MethodHandler`.
    """

    def instances(self, caller: Caller) -> Iterable[Instance]:
        """All instances of exactly this class that the caller may see."""
