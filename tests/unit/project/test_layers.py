# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The layers of the collection: imports go downwards only, and the simulator and the collection do not know each other."""
from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[3]
PLUGINS = CHECKOUT / "plugins"
SIMULATOR = CHECKOUT / "tests" / "simulator"
COLLECTION = "ansible_collections.agentless.hyperv.plugins."

# lower number = lower layer; a file may import its own layer and lower ones
LAYERS = {
    "module_utils.errors": 0, "module_utils.clock": 0,
    "module_utils.wsman": 1, "module_utils.cim": 2,
    "module_utils.protection": 3, "module_utils.windows": 3, "module_utils.hyperv": 4,
    "module_utils.module": 5, "module_utils.operations": 6, "doc_fragments": 6, "modules": 7, "filter": 8, "plugin_utils": 9,
    "action": 10, "inventory": 10,
}
MAY_IMPORT_ANSIBLE = ("modules", "filter", "plugin_utils", "action", "inventory")
THIRD_PARTY = {
    "module_utils.wsman": {"winrm", "requests", "urllib3", "requests_ntlm", "spnego"},
    "module_utils.windows": {"cryptography"},
    "modules": {"ansible"}, "filter": {"ansible"}, "plugin_utils": {"ansible"}, "action": {"ansible"},
    "inventory": {"ansible"},
}
STANDARD = frozenset(__import__("sys").stdlib_module_names) | {"__future__"}


@cache
def import_nodes(path: Path) -> tuple[ast.Import | ast.ImportFrom, ...]:
    return tuple(node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Import | ast.ImportFrom))


def relative_imports(path: Path) -> list[int]:
    return [node.lineno for node in import_nodes(path) if isinstance(node, ast.ImportFrom) and node.level]


def imports_of(path: Path) -> Iterator[str]:
    for node in import_nodes(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        else:
            if node.level:  # beside the file, so within its own package
                continue
            module = node.module or ""
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def layer_of(dotted: str) -> str | None:
    """The innermost layer that a name below ``plugins`` belongs to."""
    return max((layer for layer in LAYERS if dotted == layer or dotted.startswith(layer + ".")), key=len, default=None)


def plugin_files() -> list[Path]:
    return sorted(path for path in PLUGINS.rglob("*.py") if path.name != "__init__.py")


def dotted_name(path: Path) -> str:
    return ".".join(path.relative_to(PLUGINS).with_suffix("").parts)


def wrong(files: Iterable[Path], problems: Callable[[Path], Iterable[str]]) -> dict[str, list[str]]:
    """Files with what is wrong with them. One test looks at all: a test of its own for each file would cost more than the look."""
    found = {str(path.relative_to(CHECKOUT)): list(problems(path)) for path in files}
    return {name: told for name, told in found.items() if told}


def upwards(path: Path) -> Iterator[str]:
    own = layer_of(dotted_name(path))
    if own is None:
        yield "a file outside every layer"
        return
    yield from (f"a relative import in line {line}" for line in relative_imports(path))
    for name in imports_of(path):
        imported = layer_of(name.removeprefix(COLLECTION)) if name.startswith(COLLECTION) else None
        if imported is None:  # the package itself, or a folder above the layers
            continue
        if LAYERS[imported] > LAYERS[own]:
            yield f"{own} imports {imported}"
        elif imported != own and LAYERS[imported] == LAYERS[own]:
            yield f"{own} and {imported} are beside each other"


def test_imports_go_downwards() -> None:
    assert wrong(plugin_files(), upwards) == {}


def third_parties(path: Path) -> list[str]:
    allowed = THIRD_PARTY.get(layer_of(dotted_name(path)) or "", set())
    return sorted({name.partition(".")[0] for name in imports_of(path)} - STANDARD - {"ansible_collections"} - allowed)


def test_only_the_top_knows_ansible_and_only_the_lane_knows_third_parties() -> None:
    assert wrong(plugin_files(), third_parties) == {}


@pytest.mark.parametrize("path", sorted((PLUGINS / "filter").glob("*.py")), ids=dotted_name)
def test_filters_know_nothing_of_hosts(path: Path) -> None:
    imported = {layer_of(name.removeprefix(COLLECTION)) for name in imports_of(path) if name.startswith(COLLECTION)}
    assert imported <= {"module_utils.protection", None}


def test_the_walk_sees_the_files() -> None:
    assert len(plugin_files()) > 20
    assert {layer_of(dotted_name(path)) for path in plugin_files()} >= set(LAYERS) - {"doc_fragments"}


def test_the_simulator_never_imports_the_collection() -> None:
    assert wrong(sorted(SIMULATOR.rglob("*.py")), lambda path: [
        name for name in imports_of(path) if name.startswith(("ansible_collections", "ansible.", "plugins"))]) == {}


def test_the_collection_never_imports_the_simulator() -> None:
    assert wrong(plugin_files(), lambda path: [
        name for name in imports_of(path) if name.split(".")[0] in ("simulator", "tests", "demo", "bench")]) == {}
