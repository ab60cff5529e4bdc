# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ASSOCIATORS OF and REFERENCES OF, computed from the instances of association classes."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .definitions import ClassDef, PropertyDef
from .model import Caller, CimError, Instance, Ref
from .store import InstanceStore, key_selectors
from .wql import InvalidQuery


@dataclass(frozen=True)
class AssociationFilter:
    """Names as asked, letter case ignored; None = any."""

    association: str | None = None
    result: str | None = None
    role: str | None = None
    result_role: str | None = None


class AssociationWalker:
    """One question about one object, asked by one caller. All classes are those of ``namespace``."""

    def __init__(self, store: InstanceStore, namespace: str, source: Ref, caller: Caller) -> None:
        self._store = store
        self._namespace = namespace
        self._caller = caller
        self._indexes: dict[ClassDef, dict[Ref, Instance]] = {}
        self._source = self._existing(source)

    def associated(self, wanted: AssociationFilter) -> list[Instance]:
        """The instances at the other ends, each once, in the order in which the associations are found."""
        result = None if wanted.result is None else self._store.schema.get(self._namespace, wanted.result)
        found: dict[Ref, Instance] = {}
        for definition, row, near in self._links(wanted.association, wanted.role):
            for far in definition.references:
                target = row.values.get(far.name)
                if far is near or not _named(far, wanted.result_role) or not isinstance(target, Ref) or target in found:
                    continue
                if result is None or self._store.schema.is_a(target.namespace, target.class_name, result.name):
                    instance = self._fetch(target)
                    if instance is not None:
                        found[target] = instance
        return list(found.values())

    def links(self, wanted: AssociationFilter) -> list[Instance]:
        """The association instances themselves; ``result`` is their class."""
        found: dict[Ref, Instance] = {}
        for _class, row, _role in self._links(wanted.result, wanted.role):
            found.setdefault(self._store.reference(row), row)
        return list(found.values())

    def _links(self, association: str | None, role: str | None) -> Iterator[tuple[ClassDef, Instance, PropertyDef]]:
        """Association instances that name the object, with the role in which they do."""
        for definition, provider in self._store.associations(self._namespace, association):
            for near in definition.references:
                if _named(near, role):
                    for row in self._store.rows(definition, provider, self._caller, {near.name: self._source}):
                        if row.values.get(near.name) == self._source:
                            yield definition, row, near

    def _existing(self, source: Ref) -> Ref:
        """The reference with the object's own class and spelling; the path needs exactly the keys, and the object must exist."""
        definition = self._store.schema.get(source.namespace, source.class_name)
        try:
            keys = key_selectors(definition, source.keys.items())
        except CimError as error:
            raise InvalidQuery(error.message) from error
        if set(keys) != set(definition.keys):
            raise InvalidQuery(f"the path of a {definition.name} needs all of {', '.join(definition.keys)}")
        found = self._store.find(definition, keys, self._caller)
        if not found:
            raise CimError("not_found", f"there is no such {definition.name}")
        return self._store.reference(found[0])

    def _fetch(self, target: Ref) -> Instance | None:
        """The instance behind a reference; None for a dangling one."""
        definition = self._store.schema.get(target.namespace, target.class_name)
        provider = self._store.provider(definition)
        if provider is None:
            return None
        if hasattr(provider, "get") or hasattr(provider, "where"):
            keys = {prop.name: text for name, text in target.keys.items() if (prop := definition.find_property(name)) is not None}
            return next(iter(self._store.find(definition, keys, self._caller)), None)
        if definition not in self._indexes:  # read once for all targets of this question
            self._indexes[definition] = {self._store.reference(row): row for row in self._store.rows(definition, provider, self._caller)}
        return self._indexes[definition].get(target)


def _named(prop: PropertyDef, wanted: str | None) -> bool:
    return wanted is None or prop.name.lower() == wanted.lower()
