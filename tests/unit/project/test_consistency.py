# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must agree across files: the action group, the actions, the documentation, the files of the collection."""
from __future__ import annotations

import ast
from pathlib import Path

import pytest
import yaml

CHECKOUT = Path(__file__).resolve().parents[3]
MODULES = sorted(path.stem for path in (CHECKOUT / "plugins" / "modules").glob("hyperv_*.py"))


def documentation(module: str) -> dict[str, object]:
    tree = ast.parse((CHECKOUT / "plugins" / "modules" / f"{module}.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "DOCUMENTATION":
            loaded = yaml.safe_load(ast.literal_eval(node.value))
            assert isinstance(loaded, dict)
            return loaded
    raise AssertionError(f"{module} has no DOCUMENTATION")


def test_the_action_group_holds_every_module_and_nothing_else() -> None:
    runtime = yaml.safe_load((CHECKOUT / "meta" / "runtime.yml").read_text(encoding="utf-8"))
    assert runtime["action_groups"] == {"hyperv": MODULES}


def test_every_module_has_its_action_and_every_action_its_module() -> None:
    assert sorted(path.stem for path in (CHECKOUT / "plugins" / "action").glob("*.py")) == MODULES


@pytest.mark.parametrize("module", MODULES)
def test_every_module_names_the_group_in_its_attributes(module: str) -> None:
    fragments = documentation(module)["extends_documentation_fragment"]
    assert isinstance(fragments, list)
    assert "agentless.hyperv.attributes" in fragments


def test_the_licence_is_whole() -> None:
    text = (CHECKOUT / "LICENSE").read_text(encoding="utf-8")
    assert text.lstrip().startswith("GNU GENERAL PUBLIC LICENSE")
    assert "END OF TERMS AND CONDITIONS" in text


def sources() -> list[Path]:
    """Every Python file that is not empty."""
    return sorted(path for folder in ("plugins", "tests") for path in (CHECKOUT / folder).rglob("*.py") if path.stat().st_size)


def test_every_source_file_names_its_licence() -> None:
    heads = {str(path.relative_to(CHECKOUT)): path.read_text(encoding="utf-8")[:600] for path in sources()}
    assert [name for name, head in heads.items() if "SPDX-License-Identifier: GPL-3.0-or-later" not in head
            or "GNU General Public License v3.0+" not in head] == []


@pytest.mark.parametrize("role", sorted((CHECKOUT / "roles").iterdir()), ids=lambda role: role.name)
def test_the_variables_of_a_role_are_the_same_in_its_defaults_its_arguments_and_its_page(role: Path) -> None:
    defaults = yaml.safe_load((role / "defaults" / "main.yml").read_text(encoding="utf-8"))
    options = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))["argument_specs"]["main"]["options"]
    rendered = {name for name, value in defaults.items() if "{{" in str(value)}
    assert {name: value for name, value in defaults.items() if name not in rendered} == {
        name: option["default"] for name, option in options.items() if not option.get("required") and name not in rendered}
    page = (role / "README.md").read_text(encoding="utf-8")
    assert [name for name in options if f"`{name}`" not in page] == []
