# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which classes, properties, methods and parameters a release of Windows Server has; all names without letter case."""
from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from . import schema_source
from .definitions import CLASS_URI_PREFIX, ClassDef, MethodDef, ParameterDef, PropertyDef
from .model import CimError
from .schema_source import RELEASES, Raw, RawClass, RawNamespace, RawSchema

__all__ = ["CLASS_URI_PREFIX", "RELEASES", "ClassDef", "MethodDef", "ParameterDef", "PropertyDef", "Schema"]


class Schema:
    """The classes of one release, or of all of them; built class by class when asked and shared by all hosts of the process."""

    def __init__(self, raw: RawSchema, os_version: str | None = None) -> None:
        self._raw = raw
        self.os_version = os_version
        self._release = None if os_version is None else RELEASES.index(os_version)
        self._built: dict[tuple[str, str], ClassDef | None] = {}
        self._children: dict[str, dict[str, tuple[str, ...]]] = {}

    @classmethod
    def load(cls) -> Schema:
        """The whole schema, whatever the release. Cached."""
        return _for_release(None)

    def for_os(self, os_version: str) -> Schema:
        """What ``os_version`` (2012R2, 2016, 2019, 2022 or 2025) has. Cached. ValueError for another name."""
        if os_version not in RELEASES:
            raise ValueError(f"os_version {os_version!r} is none of {', '.join(RELEASES)}")
        return _for_release(os_version)

    @property
    def base(self) -> Schema:
        """The whole schema."""
        return _for_release(None)

    def namespaces(self) -> tuple[str, ...]:
        """Every namespace of the files, as Windows spells it."""
        return tuple(namespace.name for namespace in self._raw.namespaces.values())

    def namespace(self, name: str) -> str:
        """The spelling of a namespace (``/`` or ``\\`` between its parts); one that no file has is returned as it came."""
        name = name.replace("\\", "/").strip("/")
        found = self._raw.namespaces.get(name.lower())
        return name if found is None else found.name

    def classes(self, namespace: str) -> tuple[str, ...]:
        """Names of all classes of a namespace that the release has."""
        raw = self._raw.namespaces.get(namespace.lower())
        if raw is None:
            return ()
        return tuple(entry.name for entry in raw.classes.values() if entry.exists(self._release))

    def find(self, namespace: str, class_name: str) -> ClassDef | None:
        """A class, or None when this release has none of that name."""
        at = namespace.lower(), class_name.lower()
        try:
            return self._built[at]
        except KeyError:
            built = self._built[at] = self._build(*at)
            return built

    def get(self, namespace: str, class_name: str) -> ClassDef:
        """A class; CimError ``invalid_class`` when this release has none of that name."""
        found = self.find(namespace, class_name)
        if found is None:
            raise CimError("invalid_class", f"the class {class_name} does not exist in {namespace}")
        return found

    def is_a(self, namespace: str, class_name: str, ancestor: str) -> bool:
        """Whether a class is ``ancestor`` or derives from it; False for an unknown class."""
        found = self.find(namespace, class_name)
        return found is not None and found.is_a(ancestor)

    def subclasses(self, namespace: str, class_name: str) -> tuple[str, ...]:
        """Names of all classes that derive from a class, at any depth, without the class itself."""
        key = namespace.lower()
        if key not in self._children:
            self._children[key] = self._derivations(key)
        return self._children[key].get(class_name.lower(), ())

    def _derivations(self, namespace: str) -> dict[str, tuple[str, ...]]:
        """All subclasses of every class of a namespace."""
        raw = self._raw.namespaces.get(namespace)
        found: dict[str, list[str]] = {}
        for entry in () if raw is None else raw.classes.values():
            if raw is not None and entry.exists(self._release):
                for ancestor in self._ancestors(raw, entry)[1:]:
                    found.setdefault(ancestor.lower(), []).append(entry.name)
        return {name: tuple(names) for name, names in found.items()}

    def _ancestors(self, namespace: RawNamespace, entry: RawClass) -> tuple[str, ...]:
        """The class and its superclasses that the release has; a hidden one is skipped (Msvm_SummaryInformationBase on 2012 R2)."""
        names = [entry.name]
        superclass = entry.superclass
        while superclass is not None:
            found = namespace.classes.get(superclass.lower())
            if found is None:
                names.append(superclass)  # mentioned by the sources, not described
                break
            if found.exists(self._release):
                names.append(found.name)
            superclass = found.superclass
        return tuple(names)

    def _build(self, namespace: str, class_name: str) -> ClassDef | None:
        system = self._raw.system_classes.get(class_name.upper())
        if system is not None:
            return self._build_system(self.namespace(namespace), class_name.upper(), system)
        raw_namespace = self._raw.namespaces.get(namespace)
        entry = None if raw_namespace is None else raw_namespace.classes.get(class_name)
        if raw_namespace is None or entry is None or not entry.exists(self._release):
            return None
        ancestors = self._ancestors(raw_namespace, entry)
        properties: dict[str, PropertyDef] = {}
        hidden = set()
        for name, origin, raw in entry.properties():
            if schema_source.exists(raw, self._release):
                properties[name] = _property(name, origin, raw, name in entry.keys)
            else:
                hidden.add(name)
        methods = {name: _method(name, origin, raw) for name, origin, raw in entry.methods() if schema_source.exists(raw, self._release)}
        return ClassDef(
            namespace=raw_namespace.name, name=entry.name, superclass=ancestors[1] if len(ancestors) > 1 else None, ancestors=ancestors,
            keys=tuple(key for key in entry.keys if key in properties), abstract=entry.abstract, properties=properties, methods=methods,
            singleton=entry.name.lower() in self._raw.singletons, hidden_properties=frozenset(hidden))

    @staticmethod
    def _build_system(namespace: str, name: str, raw: Raw) -> ClassDef:
        keys = tuple(raw["key"])
        properties = {prop: _property(prop, name, entry, prop in keys) for prop, entry in raw["properties"].items()}
        return ClassDef(namespace=namespace, name=name, superclass=raw["superclass"], ancestors=(name, *raw["ancestors"]), keys=keys,
                        abstract=False, properties=properties, methods={})


def _numbers(raw: Raw, name: str) -> Mapping[int, str]:
    return {int(number): text for number, text in raw.get(name, {}).items()}


def _property(name: str, origin: str, raw: Raw, key: bool) -> PropertyDef:
    return PropertyDef(name, raw["type"], array=raw["array"], key=key, ref=raw["ref"], embedded=raw["embedded"], origin=origin,
                       read_only=bool(raw.get("read_only", True)), values=_numbers(raw, "values"))


def _parameter(raw: Raw) -> ParameterDef:
    return ParameterDef(raw["name"], raw["type"], array=raw["array"], ref=raw["ref"], embedded=raw["embedded"], is_in=raw["in"],
                        is_out=raw["out"], optional=bool(raw.get("optional")), values=_numbers(raw, "values"))


def _method(name: str, origin: str, raw: Raw) -> MethodDef:
    return MethodDef(name, tuple(_parameter(param) for param in raw["params"]), raw["returns"], bool(raw["static"]), origin,
                     _numbers(raw, "return_values"))


@cache
def _for_release(os_version: str | None) -> Schema:
    return Schema(schema_source.load(), os_version)
