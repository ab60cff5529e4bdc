# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The CIM client that modules use: a reader that cannot change anything, and a writer that remembers that it did."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.types import Instance, Parameter, Reference
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.wql import Wql
from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Clock
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.session import WsmanSession
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.shell import Shell


@dataclass(frozen=True)
class MethodResult:
    """What a method returned: ``return_value`` None when the host sent none; ``out`` holds the out parameters."""

    return_value: int | None
    out: Instance


class CimReader:
    """Reads one host. Nothing that a reader can send changes the host."""

    def __init__(self, session: WsmanSession, clock: Clock) -> None:
        self.session = session
        self.clock = clock

    def get(self, reference: Reference) -> Instance:
        """One instance by its keys. Raises NotFound when it does not exist, AccessDenied when it may not be read."""
        raise NotImplementedError

    def enumerate(self, namespace: str, class_name: str) -> list[Instance]:
        """All instances of a class and of its subclasses (wire 2.6)."""
        raise NotImplementedError

    def enumerate_references(self, namespace: str, class_name: str) -> list[Reference]:
        """The addresses of all instances of a class; the class of a reference may be a subclass."""
        raise NotImplementedError

    def query(self, query: Wql) -> list[Instance]:
        """The instances that match; when the host refuses filters: enumerate and filter here (wire 10 C1)."""
        raise NotImplementedError

    def associators(self, reference: Reference, *, association: str, result: str, role: str | None = None,
                    result_role: str | None = None) -> list[Instance]:
        """The instances of class ``result`` that ``association`` ties to ``reference``."""
        raise NotImplementedError

    def ask(self, target: Reference, method: str, parameters: Mapping[str, Parameter]) -> MethodResult:
        """Call a method that only reads (operations 0.9). Any other method is a ValueError."""
        raise NotImplementedError

    def open_reading_shell(self, environment: Mapping[str, str]) -> Shell:
        """A shell for programs that only read. Only ``windows/programs.py`` calls this; it admits read-only commands alone."""
        raise NotImplementedError


class CimWriter(CimReader):
    """May change the host. ``touched`` turns True when the first request that may change something is about to be sent."""

    def __init__(self, session: WsmanSession, clock: Clock) -> None:
        super().__init__(session, clock)
        self.touched = False

    def invoke(self, target: Reference, method: str, parameters: Mapping[str, Parameter]) -> MethodResult:
        """Call any method, once. Raises OutcomeUnknown when the answer was lost."""
        raise NotImplementedError

    def delete(self, reference: Reference) -> None:
        """Delete one instance. Raises NotFound when it is not there, OutcomeUnknown when the answer was lost."""
        raise NotImplementedError

    def open_shell(self, environment: Mapping[str, str]) -> Shell:
        """A shell for programs that may change the host."""
        raise NotImplementedError
