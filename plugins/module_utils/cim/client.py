# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The CIM client that modules use: a reader that cannot change anything, and a writer that remembers that it did."""
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from ansible_collections.agentless.hyperv.plugins.module_utils.cim import associations, facts, wql, wscim
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.types import CimValueError, Instance, Parameter, Reference
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.wql import Wql
from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Clock
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import OutcomeUnknown
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.faults import FilterRefused
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.session import WQL, Filter, Mode, WsmanSession
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.shell import Shell
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.xml import ProtocolError, text


@dataclass(frozen=True)
class MethodResult:
    """What a method returned: ``return_value`` None when the host sent none; ``out`` holds the out parameters."""

    return_value: int | None
    out: Instance


class CimReader:
    """Reads one host. Nothing that a reader can send changes the host, so everything it sends may be sent again."""

    def __init__(self, session: WsmanSession, clock: Clock) -> None:
        self.session = session
        self.clock = clock
        self._without_filters: set[str] = set()

    def get(self, reference: Reference) -> Instance:
        """One instance by its keys. Raises NotFound when it does not exist, AccessDenied when it may not be read."""
        uri = wscim.resource_uri(reference.namespace, reference.class_name)
        return wscim.decode_instance(self.session.get(uri, reference.keys), namespace=reference.namespace,
                                     class_name=reference.class_name)

    def enumerate(self, namespace: str, class_name: str) -> list[Instance]:
        """All instances of a class and of its subclasses (wire 2.6)."""
        return self._instances(self.session.enumerate(wscim.resource_uri(namespace, class_name)), namespace, class_name)

    def enumerate_references(self, namespace: str, class_name: str) -> list[Reference]:
        """The addresses of all instances of a class; the class of a reference may be a subclass."""
        items = self.session.enumerate(wscim.resource_uri(namespace, class_name), mode=Mode.EPR)
        return [wscim.decode_reference(item) for item in items]

    def query(self, query: Wql) -> list[Instance]:
        """The instances that match; when the host refuses filters: enumerate and filter here (wire 10, C1).

        With ``columns`` the instances hold only those, and their class is the query's.
        """
        found = self._filtered(query)
        if found is not None:
            return found
        every = self.enumerate(query.namespace, query.class_name)
        self._without_filters.add(query.namespace.lower())  # the class itself can be read: the filter was what it refused
        return [wql.project(one, query.columns) for one in every if query.matches(one)]

    def query_if_filtered(self, query: Wql) -> list[Instance] | None:
        """The answer to a query, None when the host does not process filters: for classes that must never be read as a whole."""
        return self._filtered(query)

    def associators(self, reference: Reference, *, association: str, result: str, role: str | None = None,
                    result_role: str | None = None) -> list[Instance]:
        """The instances of class ``result`` that ``association`` ties to ``reference``; found without filters if need be."""
        query = wql.associators_of(reference, association=association, result=result, role=role, result_role=result_role)
        found = self._filtered(query)
        if found is not None:
            return found
        wanted = associations.Wanted(reference, role, result_role)
        ties = self.enumerate(reference.namespace, association)
        candidates = self.enumerate(reference.namespace, result) if ties else []
        self._without_filters.add(reference.namespace.lower())
        return associations.select(wanted, ties, candidates)

    def ask(self, target: Reference, method: str, parameters: Mapping[str, Parameter]) -> MethodResult:
        """Call a method that only reads (operations 0.9). Any other method is a ValueError."""
        if not facts.only_reads(target.class_name, method):
            raise ValueError(f"{target.class_name}.{method} is not known to only read")
        return self._invoke(target, method, parameters, repeatable=True, before_send=None)

    def open_reading_shell(self, environment: Mapping[str, str]) -> Shell:
        """A shell for programs that only read. Only ``windows/programs.py`` calls this; it admits read-only commands alone."""
        return Shell(self.session, environment)

    def _filtered(self, query: Wql) -> list[Instance] | None:
        """The answer to a query, None when the host does not process it; it is asked once per namespace."""
        if query.namespace.lower() in self._without_filters:
            return None
        try:
            items = self.session.enumerate(wscim.resource_uri(query.namespace, "*"), Filter(WQL, text(query.text)))
        except FilterRefused:
            return None
        return self._instances(items, query.namespace, query.class_name)

    @staticmethod
    def _instances(items: list[Element], namespace: str, class_name: str) -> list[Instance]:
        return [wscim.decode_instance(item, namespace=namespace, class_name=class_name) for item in items]

    def _invoke(self, target: Reference, method: str, parameters: Mapping[str, Parameter], *, repeatable: bool,
                before_send: Callable[[], None] | None) -> MethodResult:
        ordered = facts.in_order(target.class_name, method, parameters)
        body = wscim.encode_input(target.namespace, target.class_name, method, ordered)
        answer = self.session.invoke(wscim.resource_uri(target.namespace, target.class_name), method, target.keys, body,
                                     repeatable=repeatable, before_send=before_send)
        try:
            out = wscim.decode_instance(answer, namespace=target.namespace)
            return MethodResult(out.integer("ReturnValue"), out)
        except (ProtocolError, CimValueError) as error:
            if repeatable:
                raise ProtocolError(f"The answer to {method} cannot be understood: {error}") from error
            raise OutcomeUnknown(f"The answer to {method} cannot be understood, so it may have taken effect: {error}") from error


class CimWriter(CimReader):
    """May change the host. ``touched`` turns True when the first request that may change something is about to be sent."""

    def __init__(self, session: WsmanSession, clock: Clock) -> None:
        super().__init__(session, clock)
        self.touched = False

    def invoke(self, target: Reference, method: str, parameters: Mapping[str, Parameter]) -> MethodResult:
        """Call any method, once. Raises OutcomeUnknown when the answer was lost."""
        return self._invoke(target, method, parameters, repeatable=False, before_send=self._touch)

    def delete(self, reference: Reference) -> None:
        """Delete one instance. Raises NotFound when it is not there, OutcomeUnknown when the answer was lost."""
        uri = wscim.resource_uri(reference.namespace, reference.class_name)
        self.session.delete(uri, reference.keys, before_send=self._touch)

    def open_shell(self, environment: Mapping[str, str]) -> Shell:
        """A shell for programs that may change the host."""
        return Shell(self.session, environment, before_send=self._touch)

    def _touch(self) -> None:
        self.touched = True
