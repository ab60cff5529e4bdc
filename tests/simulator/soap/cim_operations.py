# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The CIM operations of the service: Get, Put, Delete, Enumerate, Pull, Release, Invoke (wire 1.3, 1.4, 2, 3.1)."""
from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from xml.etree import ElementTree as ET

from simulator.cim import wscim
from simulator.cim.model import Caller, CimError, Instance
from simulator.cim.repository import Repository
from simulator.spec import Quirks

from . import names
from .enumeration import Batch, Enumerations, format_enumerate, format_pull, wrap_item
from .envelope import Request, parse_selectors
from .faults import SoapFault, from_cim_error, operations_quota

_MODES = ("EnumerateObject", "EnumerateEPR", "EnumerateObjectAndEPR")
_READING_METHODS = frozenset({"validatevirtualharddisk", "testreplicationconnection", "formaterror", "exportbyname", "exportbytaskname"})
"""Methods that change nothing and do not begin with Get (operations 0.9)."""


@dataclass(frozen=True)
class ClassUri:
    """A class resource URI taken apart. ``uri`` is spelled as the client spelled it."""

    uri: str
    namespace: str
    class_name: str

    @property
    def is_star(self) -> bool:
        """The all-classes URI of a namespace."""
        return self.class_name == "*"


def parse_class_uri(uri: str) -> ClassUri:
    """Take a class URI apart; raises the fault of a URI that names no class."""
    if not uri.lower().startswith(names.CLASS_PREFIX):
        raise SoapFault("invalid_resource_uri")
    namespace, _unused, class_name = uri[len(names.CLASS_PREFIX):].partition("?")[0].rstrip("/").rpartition("/")
    if not namespace or not class_name:
        raise SoapFault("invalid_resource_uri")
    return ClassUri(uri, namespace, class_name)


def is_reading_method(method: str) -> bool:
    """Whether calling a method leaves the host as it is (operations 0.9)."""
    return method.lower().startswith("get") or method.lower() in _READING_METHODS


@dataclass(frozen=True)
class _Query:
    """What an Enumerate asks for, before anything is delivered."""

    items: Iterator[str]
    optimised: bool
    max_elements: int


class CimOperations:
    """Carries out CIM requests; every method returns the action of the answer and its body as XML text."""

    def __init__(self, repository: Repository, enumerations: Enumerations, quirks: Quirks, draw: random.Random) -> None:
        self._repository = repository
        self._enumerations = enumerations
        self._quirks = quirks
        self._draw = draw
        self._utc_offset = None if quirks.utc_offset_minutes is None else timedelta(minutes=quirks.utc_offset_minutes)

    def get(self, request: Request, caller: Caller) -> tuple[str, str]:
        """Get."""
        target = self._target(request)
        with _Translated(target.namespace, self._draw):
            instance = self._repository.get(target.namespace, target.class_name, _keys(request, target), caller)
        return names.GET + "Response", wscim.encode_instance(self._repository.schema, instance, utc_offset=self._utc_offset)

    def put(self, request: Request) -> tuple[str, str]:
        """Put and Create: no class of this simulator takes them, as no Hyper-V class does."""
        self._target(request)
        raise SoapFault("action_not_supported")

    def delete(self, request: Request, caller: Caller) -> tuple[str, str]:
        """Delete."""
        target = self._target(request)
        with _Translated(target.namespace, self._draw):
            self._repository.delete(target.namespace, target.class_name, _keys(request, target), caller)
        return names.DELETE + "Response", ""

    def invoke(self, request: Request, method: str, caller: Caller) -> tuple[str, str]:
        """Invoke."""
        target = self._target(request)
        payload = request.payload
        if payload is None:
            raise SoapFault("schema_validation")
        schema = self._repository.schema
        with _Translated(target.namespace, self._draw):
            self._repository.open_namespace(target.namespace, caller)  # who may not come in learns nothing about what is inside
            parameters = wscim.decode_input(schema, target.namespace, target.class_name, method, payload)
            outs = self._repository.invoke(target.namespace, target.class_name, _keys(request, target), method, parameters, caller)
            body = wscim.encode_output(schema, target.namespace, target.class_name, method, outs, utc_offset=self._utc_offset)
        return f"{target.uri}/{method}Response", body

    def enumerate(self, request: Request, caller: Caller, *, max_bytes: int, others: int) -> tuple[str, str]:
        """Enumerate. ``others``: operations that the user has open beside enumerations."""
        target = parse_class_uri(request.resource_uri)
        with _Translated(target.namespace, self._draw):
            query = self._query(target, request, caller)
            context = self._enumerations.begin(caller.account.display.lower(), query.items, others=others,
                                               over_quota=lambda: operations_quota(self._some_namespace(target.namespace)))
            if query.optimised:
                batch = self._enumerations.deliver(context, max_items=query.max_elements, max_bytes=max_bytes)
            else:
                batch = self._enumerations.hold(context)
        return names.ENUMERATE + "Response", format_enumerate(batch, optimised=query.optimised)

    def enumerate_texts(self, request: Request, items: Iterable[str], caller: Caller, *, max_bytes: int, others: int) -> tuple[str, str]:
        """Enumerate something that is no CIM class (shells)."""
        optimised, max_elements, _unused = _enumerate_options(request.payload)
        context = self._enumerations.begin(caller.account.display.lower(), items, others=others,
                                           over_quota=lambda: SoapFault("quota_operations_enumeration"))
        if optimised:
            batch = self._enumerations.deliver(context, max_items=max_elements, max_bytes=max_bytes)
        else:
            batch = self._enumerations.hold(context)
        return names.ENUMERATE + "Response", format_enumerate(batch, optimised=optimised)

    def pull(self, request: Request, caller: Caller, *, max_bytes: int) -> tuple[str, str]:
        """Pull. The resource URI is not compared with that of the Enumerate (wire 2.7)."""
        context = self._enumerations.take(_context(request.payload, "Pull"), caller.account.display.lower())
        with _Translated("", self._draw):
            batch: Batch = self._enumerations.deliver(context, max_items=_max_elements(request.payload, names.N), max_bytes=max_bytes)
        return names.PULL + "Response", format_pull(batch)

    def release(self, request: Request, caller: Caller) -> tuple[str, str]:
        """Release."""
        self._enumerations.take(_context(request.payload, "Release"), caller.account.display.lower())
        return names.RELEASE + "Response", ""

    # -- helpers ---------------------------------------------------------------------------------------------------

    def _target(self, request: Request) -> ClassUri:
        target = parse_class_uri(request.resource_uri)
        if target.is_star:
            raise SoapFault("invalid_resource_uri")
        return target

    def _some_namespace(self, namespace: str) -> str | None:
        """MSFT_WmiError occurs in the class's namespace and in the cim-schema one (wire 5.1)."""
        return namespace if self._draw.random() < 0.5 else None

    def _query(self, target: ClassUri, request: Request, caller: Caller) -> _Query:
        optimised, max_elements, mode = _enumerate_options(request.payload)
        found, columns = self._find(target, request, caller)
        other_case = self._draw.random() < self._quirks.other_case
        items = self._encode(found, columns, mode, target.namespace if other_case else None)
        return _Query(items, optimised, max_elements)

    def _find(self, target: ClassUri, request: Request, caller: Caller) -> tuple[list[Instance], tuple[str, ...] | None]:
        """The instances an Enumerate means, and the columns of a projection."""
        element = _filter(request.payload)
        if element is None:
            if target.is_star:
                raise SoapFault("invalid_resource_uri")
            return self._repository.enumerate(target.namespace, target.class_name, caller), None
        dialect = element.get("Dialect", "")
        if dialect == names.SELECTOR_FILTER:
            return self._by_selectors(target, element, caller), None
        if dialect not in (names.WQL, names.ASSOCIATION_FILTER):
            raise SoapFault("cannot_process_filter")
        if not target.is_star or request.selectors:
            raise SoapFault("filter_needs_star")
        if dialect == names.ASSOCIATION_FILTER:
            return self._by_association(target, element, caller), None
        refused = [namespace.lower() for namespace in self._quirks.refuse_wql_namespaces]
        if target.namespace.lower() in refused:
            raise SoapFault("cannot_process_filter")
        result = self._repository.query(target.namespace, "".join(element.itertext()).strip(), caller)
        return result.instances, result.columns

    def _by_selectors(self, target: ClassUri, element: ET.Element, caller: Caller) -> list[Instance]:
        if target.is_star:
            raise SoapFault("cannot_process_filter")
        try:
            selectors = parse_selectors(element.find(names.tag(names.W, "SelectorSet")))
        except SoapFault as error:
            raise SoapFault("cannot_process_filter") from error
        if not selectors or any(quote in value for value in selectors.values() for quote in "'\""):
            raise SoapFault("cannot_process_filter")
        return self._repository.selector_filter(target.namespace, target.class_name, selectors, caller)

    def _by_association(self, target: ClassUri, element: ET.Element, caller: Caller) -> list[Instance]:
        """The association dialect: ``b:AssociatedInstances`` or ``b:AssociationInstances`` (wire 2.4)."""
        question = next(iter(element), None)
        if question is None:
            raise SoapFault("cannot_process_filter")
        origin = question.find(names.tag(names.B, "Object"))
        if origin is None:
            raise SoapFault("cannot_process_filter")
        self._repository.open_namespace(target.namespace, caller)
        ref = wscim.decode_epr(self._repository.schema, origin)

        def part(name: str) -> str | None:
            return (question.findtext(names.tag(names.B, name)) or "").strip() or None

        if question.tag == names.tag(names.B, "AssociatedInstances"):
            return self._repository.associated(
                target.namespace, ref, caller, association=part("AssociationClassName"), result=part("ResultClassName"),
                role=part("Role"), result_role=part("ResultRole"))
        if question.tag == names.tag(names.B, "AssociationInstances"):
            return self._repository.association_instances(target.namespace, ref, caller, result=part("ResultClassName"), role=part("Role"))
        raise SoapFault("cannot_process_filter")

    def _encode(self, instances: list[Instance], columns: tuple[str, ...] | None, mode: str, other_case: str | None) -> Iterator[str]:
        """Items as XML text, made one by one as they are delivered."""
        schema = self._repository.schema
        for instance in instances:
            body = None
            if columns is not None:
                body = wscim.encode_fragment(schema, instance, columns, utc_offset=self._utc_offset)
            elif mode != "EnumerateEPR":
                body = wscim.encode_instance(schema, instance, utc_offset=self._utc_offset)
            reference = None
            if columns is None and mode != "EnumerateObject":
                reference = wscim.encode_epr(self._repository.reference(instance))
            item = wrap_item(body, reference)
            if other_case is not None:
                item = item.replace(names.CLASS_PREFIX + other_case, names.CLASS_PREFIX + other_case.upper())
            yield item


class _Translated:
    """Turns a refusal of the repository into the fault that Windows sends."""

    def __init__(self, namespace: str, draw: random.Random) -> None:
        self._namespace = namespace
        self._draw = draw

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, CimError):
            own = bool(self._namespace) and self._draw.random() < 0.5
            raise from_cim_error(error, self._namespace, own_namespace=own) from error


def _keys(request: Request, target: ClassUri) -> dict[str, str]:
    """The selectors without ``__cimnamespace``, which may be there when it says the same as the URI (wire 1.1)."""
    result = dict(request.selectors)
    for name in list(result):
        if name.lower() == "__cimnamespace":
            said = result.pop(name).replace("\\", "/").strip("/").lower()
            if said != target.namespace.lower():
                raise SoapFault("internal_error")
    return result


def _enumerate_options(payload: ET.Element | None) -> tuple[bool, int, str]:
    """Whether optimised, how many elements, which mode."""
    if payload is None or payload.tag != names.tag(names.N, "Enumerate"):
        raise SoapFault("schema_validation")
    if payload.find(names.tag(names.B, "PolymorphismMode")) is not None:
        raise SoapFault("polymorphism")
    mode = (payload.findtext(names.tag(names.W, "EnumerationMode")) or "EnumerateObject").strip()
    if mode not in _MODES:
        raise SoapFault("invalid_parameter")
    return payload.find(names.tag(names.W, "OptimizeEnumeration")) is not None, _max_elements(payload, names.W), mode


def _max_elements(payload: ET.Element | None, namespace: str) -> int:
    """MaxElements in the namespace where the operation wants it; 1 without."""
    value = payload.findtext(names.tag(namespace, "MaxElements")) if payload is not None else None
    if value is None:
        return 1
    if not value.strip().isascii() or not value.strip().isdigit() or int(value) < 1:
        raise SoapFault("schema_validation")
    return int(value)


def _filter(payload: ET.Element | None) -> ET.Element | None:
    """``w:Filter`` or ``n:Filter``, which mean the same on Windows (wire 2.4)."""
    if payload is None:
        return None
    found = payload.find(names.tag(names.W, "Filter"))
    return found if found is not None else payload.find(names.tag(names.N, "Filter"))


def _context(payload: ET.Element | None, operation: str) -> str:
    if payload is None or payload.tag != names.tag(names.N, operation):
        raise SoapFault("schema_validation")
    value = payload.findtext(names.tag(names.N, "EnumerationContext"))
    if value is None or not value.strip():
        raise SoapFault("invalid_enumeration_context")
    return value
