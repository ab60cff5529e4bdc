# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The schema files as one table, and what of it each release of Windows Server has.

Three files are merged: ``hyperv_cim_schema.json`` (documentation, with the release in which a member came),
``windows_cim_schema.json`` (generated from a live host) and ``supplement_cim_schema.json`` (our own short list of facts that
neither holds, each with its source). Where the first two describe the same class, the first decides and the second adds what it
lacks: static methods, further parameters, further properties.
"""
from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, TypeAlias

Raw: TypeAlias = Mapping[str, Any]

DATA: Final = Path(__file__).resolve().parent.parent / "data"

RELEASES: Final = ("2012R2", "2016", "2019", "2022", "2025")
OLDEST: Final = 0

_LABELS: Final = {
    "Windows Server 2003": 0, "Windows Server 2008": 0, "Windows Server 2008 R2": 0, "Windows Server 2012": 0, "Windows Server 2012 R2": 0,
    "Windows Server 2016": 1, "Windows Server 2019": 2, "Windows Server 2022": 3, "Windows Server 2025": 4,
}
# Operations 0.6: what the pages date to the client update 1703 shipped in Server 2016, 1709 and later only in Server 2019.
_CLIENT_LABELS: Final = {"Windows 10, version 1703": 1, "Windows 10, version 1709": 2, "Windows 10, version 1803": 2}
# The dumps of real hosts that the notes of the schema name; "client" is Windows 10 of December 2019.
_SEEN_SINCE: Final = {"2019": 2, "client": 3, "23H2": 4}
_NOT_SEEN_AT: Final = {"2019": (2,), "23H2": (3, 4), "client": ()}


def first_release(entry: Raw) -> int:
    """Index into RELEASES of the first release that has a class, property or method."""
    client = entry.get("added_client")
    if client is not None:
        return _CLIENT_LABELS[client]
    if entry.get("added") is not None:
        return _LABELS[entry["added"]]
    if entry.get("documented") is False:
        if "seen_in" in entry:
            return min(_SEEN_SINCE[dump] for dump in entry["seen_in"])
        return 4 if "2019" in entry.get("not_seen_in", ()) else 2
    return OLDEST


def exists(entry: Raw, release: int | None) -> bool:
    """Whether a release (None = any) has a class, property or method."""
    if release is None:
        return True
    if release < first_release(entry):
        return False
    if any(release in _NOT_SEEN_AT[dump] for dump in entry.get("not_seen_in", ())):
        return False
    removed = entry.get("removed")
    return removed is None or release < _LABELS[removed]


class RawClass:
    """One class of the merged table; members are resolved when somebody asks."""

    def __init__(self, namespace: RawNamespace, name: str) -> None:
        self.namespace = namespace
        self.name = name
        self.documented: Raw | None = None
        self.generated: Raw | None = None

    @property
    def _main(self) -> Raw:
        main = self.documented if self.documented is not None else self.generated
        assert main is not None
        return main

    @property
    def superclass(self) -> str | None:
        """The name of the superclass, which may be missing from the table."""
        name = self._main.get("superclass")
        return None if name is None else str(name)

    @property
    def abstract(self) -> bool:
        """Whether the class has no instances of its own."""
        return bool(self._main.get("abstract"))

    @property
    def keys(self) -> tuple[str, ...]:
        """Names of the key properties."""
        keys = self._main.get("key") or (self.generated or {}).get("key") or ()
        return tuple(keys)

    def exists(self, release: int | None) -> bool:
        """Whether a release has the class."""
        return exists(self._main, release)

    def properties(self) -> Iterator[tuple[str, str, Raw]]:
        """Name, declaring class and description of each property."""
        known = set()
        for name, origin, entry in self._documented_members("properties"):
            known.add(name.lower())
            yield name, origin, entry
        for name, entry in (self.generated or {}).get("properties", {}).items():
            if name.lower() not in known:
                yield name, entry.get("from") or self.name, entry

    def methods(self) -> Iterator[tuple[str, str, Raw]]:
        """Name, declaring class and description of each method; ``params`` merged, ``static`` filled in."""
        generated = {name.lower(): (name, entry) for name, entry in (self.generated or {}).get("methods", {}).items()}
        statics = self.namespace.static_methods(self.name)
        for name, origin, entry in self._documented_members("methods"):
            _unused, other = generated.pop(name.lower(), (name, None))
            yield name, origin, _merge_method(entry, other, name in statics)
        for name, entry in generated.values():
            yield name, entry.get("from") or self.name, _merge_method(entry, None, name in statics)

    def _documented_members(self, kind: str) -> Iterator[tuple[str, str, Raw]]:
        for name, entry in (self.documented or {}).get(kind, {}).items():
            origin = entry.get("inherited")
            if origin is None:
                yield name, self.name, entry
            else:  # one hop, never a chain (notes of the schema)
                source = self.namespace.classes[origin.lower()].documented
                assert source is not None
                yield name, origin, source[kind][name]


class RawNamespace:
    """One namespace of the merged table."""

    def __init__(self, name: str, statics: Raw) -> None:
        self.name = name
        self.classes: dict[str, RawClass] = {}
        self._statics = statics

    def static_methods(self, class_name: str) -> tuple[str, ...]:
        """Methods of a class that the supplement calls static."""
        return tuple(self._statics.get(f"{self.name}:{class_name}", ()))

    def entry(self, class_name: str) -> RawClass:
        """The class of that name, made when it is new."""
        return self.classes.setdefault(class_name.lower(), RawClass(self, class_name))


class RawSchema:
    """The merged files."""

    def __init__(self, documented: Raw, generated: Raw, supplement: Raw) -> None:
        self.namespaces: dict[str, RawNamespace] = {}
        self.system_classes: Raw = supplement["system_classes"]
        self.singletons = frozenset(name.lower() for name in supplement["singletons"]["classes"])
        statics: Raw = supplement["static_methods"]["classes"]
        for name in generated["namespaces"]:  # spelled as Windows does, so these names win
            self.namespaces[name.lower()] = RawNamespace(name, statics)
        for name, classes in documented["namespaces"].items():
            namespace = self.namespaces.setdefault(name.lower(), RawNamespace(name, statics))
            for class_name, entry in classes.items():
                namespace.entry(class_name).documented = entry
        for name, classes in generated["namespaces"].items():
            for class_name, entry in classes.items():
                self.namespaces[name.lower()].entry(class_name).generated = entry


def _merge_method(entry: Raw, other: Raw | None, static: bool) -> Raw:
    params = list(entry["params"])
    if other is not None:
        known = {param["name"].lower() for param in params}
        params += [param for param in other["params"] if param["name"].lower() not in known]
        static = static or bool(other.get("static"))
    return {**entry, "params": params, "static": static or bool(entry.get("static"))}


def _read(name: str) -> Raw:
    loaded: Raw = json.loads((DATA / name).read_text(encoding="utf-8"))
    return loaded


@lru_cache(maxsize=1)
def load() -> RawSchema:
    """The merged files, read once for the process."""
    return RawSchema(_read("hyperv_cim_schema.json"), _read("windows_cim_schema.json"), _read("supplement_cim_schema.json"))
