# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The layers of the collection: imports go downwards only, and the simulator and the collection do not know each other."""
from __future__ import annotations

import ast
from collections.abc import Iterator
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


def relative_imports(path: Path) -> list[int]:
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return [node.lineno for node in nodes if isinstance(node, ast.ImportFrom) and node.level]


def imports_of(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
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


@pytest.mark.parametrize("path", plugin_files(), ids=dotted_name)
def test_imports_go_downwards(path: Path) -> None:
    own = layer_of(dotted_name(path))
    assert own is not None, "a file outside every layer"
    assert not relative_imports(path)
    for name in imports_of(path):
        if not name.startswith(COLLECTION):
            continue
        imported = layer_of(name.removeprefix(COLLECTION))
        if imported is None:  # the package itself, or a folder above the layers
            continue
        assert LAYERS[imported] <= LAYERS[own], f"{own} imports {imported}"
        assert imported == own or LAYERS[imported] < LAYERS[own], f"{own} and {imported} are beside each other"


@pytest.mark.parametrize("path", plugin_files(), ids=dotted_name)
def test_only_the_top_knows_ansible_and_only_the_lane_knows_third_parties(path: Path) -> None:
    own = layer_of(dotted_name(path)) or ""
    allowed = THIRD_PARTY.get(own, set())
    roots = {name.partition(".")[0] for name in imports_of(path)} - STANDARD - {"ansible_collections"}
    assert roots <= allowed, f"{own} imports {sorted(roots - allowed)}"


@pytest.mark.parametrize("path", sorted((PLUGINS / "filter").glob("*.py")), ids=dotted_name)
def test_filters_know_nothing_of_hosts(path: Path) -> None:
    imported = {layer_of(name.removeprefix(COLLECTION)) for name in imports_of(path) if name.startswith(COLLECTION)}
    assert imported <= {"module_utils.protection", None}


def test_the_walk_sees_the_files() -> None:
    assert len(plugin_files()) > 20
    assert {layer_of(dotted_name(path)) for path in plugin_files()} >= set(LAYERS) - {"doc_fragments"}


@pytest.mark.parametrize("path", sorted(SIMULATOR.rglob("*.py")), ids=lambda path: str(path.relative_to(SIMULATOR)))
def test_the_simulator_never_imports_the_collection(path: Path) -> None:
    assert not [name for name in imports_of(path) if name.startswith(("ansible_collections", "ansible.", "plugins"))]


@pytest.mark.parametrize("path", plugin_files(), ids=dotted_name)
def test_the_collection_never_imports_the_simulator(path: Path) -> None:
    assert not [name for name in imports_of(path) if name.split(".")[0] in ("simulator", "tests", "demo", "bench")]
