# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pages of ``docs`` and the README say what the code says."""
from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.doubts import DOUBTS
from ansible_collections.agentless.hyperv.plugins.module_utils.protection import consistency
from docsite.rst import anchor

CHECKOUT = Path(__file__).resolve().parents[3]
PLUGINS = CHECKOUT / "plugins"
DOCS = CHECKOUT / "docs"
SIMULATOR = CHECKOUT / "tests" / "simulator"
PAGES = (CHECKOUT / "README.md", CHECKOUT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md")),
         *sorted((CHECKOUT / "roles").glob("*/README.md")))
_LINK = re.compile(r"\]\(([^)#]*)(?:#([^)]*))?\)")


def rows_of(page: str) -> list[list[str]]:
    """The cells of every table row of a page, without the lines below headings. A pipe in code is written as ``\\|``."""
    rows = [line.strip().strip("|") for line in page.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)] for row in rows if not re.fullmatch(r"[-| :]+", row)]


# -- error codes -----------------------------------------------------------------------------------------------------

DYNAMIC = {"error_code", "reason.code", "refusal.error_code", "error.error_code"}
"""Expressions whose values come from other places that are looked at here: the parameter of a caller, rules, VSS refusals."""
RAISED = frozenset((consistency.VSS_COPY, consistency.PRODUCTION, consistency.STANDARD)) | consistency.EXPORTS
"""Methods of the table whose blockers a module raises under the codes of the rules."""


def trees() -> Iterator[ast.Module]:
    for path in sorted(PLUGINS.rglob("*.py")):
        yield ast.parse(path.read_text(encoding="utf-8"))


def connection_errors() -> set[str]:
    """Names of the classes that make a host unreachable: ConnectionFailed and what is derived from it."""
    bases = {node.name: {ast.unparse(base).rpartition(".")[2] for base in node.bases}
             for tree in trees() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    family = {"ConnectionFailed"}
    while more := {name for name, above in bases.items() if above & family} - family:
        family |= more
    return family


def literals(node: ast.expr) -> list[str]:
    """The texts that an expression can be; empty for one that is not made of literals."""
    if isinstance(node, ast.IfExp):
        return literals(node.body) + literals(node.orelse)
    return [node.value] if isinstance(node, ast.Constant) and isinstance(node.value, str) else []


def codes_of(node: ast.AST, unreachable: set[str]) -> Iterator[tuple[str, str]]:
    """Codes that one node of a syntax tree states, with their states."""
    if isinstance(node, ast.ClassDef):
        for line in node.body:
            if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "error_code":
                yield from ((code, "unreachable" if node.name in unreachable else "failed") for code in literals(line.value))
    elif isinstance(node, ast.Call):
        name = ast.unparse(node.func).rpartition(".")[2]
        state = "unreachable" if name in unreachable else "failed"
        given = [keyword.value for keyword in node.keywords if keyword.arg == "error_code"]
        given += node.args[2:3] if name == "expect_success" else node.args[:1] if name == "Refusal" else []
        for value in given:
            assert literals(value) or ast.unparse(value) in DYNAMIC, f"a code that no test can see: {ast.unparse(value)}"
            yield from ((code, state) for code in literals(value))
    elif isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            if key is not None and literals(key) == ["error_code"]:
                yield from ((code, "failed") for code in literals(value))


def codes_in_code() -> dict[str, str]:
    """Every code that a task can return, with ``failed``, ``unreachable`` or ``either``."""
    unreachable = connection_errors()
    found: dict[str, set[str]] = {}
    for tree in trees():
        for node in ast.walk(tree):
            for code, state in codes_of(node, unreachable):
                found.setdefault(code, set()).add(state)
    for rule in consistency.RULES:
        if rule.methods & RAISED and (rule.kind == "blocker" or (rule.code == "several_volumes" and consistency.VSS_COPY in rule.methods)):
            found.setdefault(rule.code, set()).add("failed")
    return {code: states.pop() if len(states) == 1 else "either" for code, states in found.items()}


def codes_in_page() -> dict[str, str]:
    rows = [row for row in rows_of((DOCS / "errors.md").read_text(encoding="utf-8")) if len(row) == 4 and row[0].startswith("`")]
    codes = [row[0].strip("`") for row in rows]
    assert len(codes) == len(set(codes)), "a code has two rows"
    return {row[0].strip("`"): row[3] for row in rows}


def test_every_code_of_the_code_has_a_row_and_every_row_a_code() -> None:
    assert codes_in_page() == codes_in_code()


def test_the_search_for_codes_sees_every_form() -> None:
    source = (
        "class Gone(ConnectionFailed):\n    error_code = 'gone'\n"
        "raise Gone('x', error_code='a' if y else 'b')\n"
        "expect_success(result, 'what', 'c')\n"
        "result = {'error_code': 'd'}\n")
    found = [pair for node in ast.walk(ast.parse(source)) for pair in codes_of(node, {"Gone"})]
    assert sorted(found) == [("a", "unreachable"), ("b", "unreachable"), ("c", "failed"), ("d", "failed"), ("gone", "unreachable")]


def test_every_row_says_what_it_means() -> None:
    rows = [row for row in rows_of((DOCS / "errors.md").read_text(encoding="utf-8")) if len(row) == 4]
    assert [row[0] for row in rows if not row[1]] == []


# -- the decision table ----------------------------------------------------------------------------------------------

SHORT = {
    "application": "app", "filesystem": "files", "inconsistent": "incons.", "crash": "crash", "image": "image",
}
COLUMNS = {
    consistency.PRODUCTION: "prod.", consistency.STANDARD: "std.", consistency.RECOVERY_APPLICATION: "rec. app",
    consistency.RECOVERY_CRASH: "rec. crash", consistency.EXPORT_CRASH: "exp. crash", consistency.EXPORT_SAVED: "saved",
    consistency.EXPORT_APPLICATION: "exp. app", consistency.VSS_COPY: "VSS copy", consistency.VSS_WRITER: "writer",
    consistency.LIVE_COPY: "live",
}
HEALTHY = consistency.Condition(
    build=20348, config_version=(10, 0), checkpoint_policy="production", backup_enabled=True, backup_answering=True, guest="windows",
    free_ratio=0.5, chain_known=True)
MACHINES: dict[str, dict[str, Any]] = {
    "running, answers": {},
    "policy production only": {"checkpoint_policy": "production_only"},
    "policy standard": {"checkpoint_policy": "standard"},
    "policy disabled": {"checkpoint_policy": "disabled"},
    "backup service off or silent": {"backup_enabled": False, "backup_answering": False},
    "silent, production only": {"backup_answering": False, "checkpoint_policy": "production_only"},
    "Linux guest that answers": {"guest": "linux"},
    "guest does not say what it is": {"guest": "unknown"},
    "off": {"state": "off", "backup_answering": None},
    "saved": {"state": "saved", "backup_answering": None},
    "paused": {"state": "paused"},
    "starting, stopping, saving": {"state": "starting"},
    "disks on two volumes": {"volumes": 2},
    "pass-through disk, too": {"pass_through": 1},
    "pass-through disks only": {"pass_through": 1, "virtual_disks": 0},
    "virtual Fibre Channel, too": {"fibre_channel": 1},
    "shared VHDX or VHD set": {"shared_disks": 1},
    "disks on an SMB share": {"smb_disks": 1},
    "disks on a CSV owned here": {"csv_disks": 1, "csv_owned": True, "file_systems": frozenset(("CSVFS",))},
    "disks on a CSV owned elsewhere": {"csv_disks": 1, "csv_owned": False, "file_systems": frozenset(("CSVFS",))},
    "disks on ReFS": {"file_systems": frozenset(("ReFS",))},
    "15 % free": {"free_ratio": 0.15},
    "replica": {"replication_mode": "replica"},
    "configuration out of reach": {"storage_offline": True},
    "configuration version 5.0": {"config_version": (5, 0)},
    "client edition of Windows": {"server": False},
    "2012 R2, answers": {"build": 9600, "config_version": (5, 0), "checkpoint_policy": None},
    "2012 R2, silent": {"build": 9600, "config_version": (5, 0), "checkpoint_policy": None, "backup_answering": False},
}


def cell(method: str, condition: consistency.Condition) -> str:
    verdict = consistency.judge(method, condition)
    return "-" if verdict.level is None else SHORT[verdict.level] + ("*" if verdict.of_kind("not_captured") else "")


def machines_table() -> str:
    lines = ["| machine | " + " | ".join(COLUMNS[method] for method in consistency.METHODS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for name, change in MACHINES.items():
        condition = replace(HEALTHY, **change)
        lines.append(f"| {name} | " + " | ".join(cell(method, condition) for method in consistency.METHODS) + " |")
    return "\n".join(lines)


GROUPS = {
    consistency.ALL: "all", consistency.CHECKPOINTS: "checkpoints", consistency.EXPORTS: "exports", consistency.VSS: "VSS",
    consistency.FILE_COPIES: "file copies", consistency.QUIESCING: "quiescing",
}


def methods_text(methods: frozenset[str]) -> str:
    left_out = [COLUMNS[method] for method in consistency.METHODS if method not in methods]
    if methods in GROUPS:
        return GROUPS[methods]
    if len(left_out) <= 2:
        return "all but " + ", ".join(left_out)
    return ", ".join(COLUMNS[method] for method in consistency.METHODS if method in methods)


def rules_table() -> str:
    lines = ["| code | kind | methods | text |", "|---|---|---|---|"]
    for rule in consistency.RULES:
        kind = rule.kind if rule.level is None else f"limit: {rule.level}"
        lines.append(f"| `{rule.code}` | {kind} | {methods_text(rule.methods)} | {rule.sentence} |")
    return "\n".join(lines)


TABLES = {"machines": machines_table, "rules": rules_table}


def with_tables(page: str) -> str:
    """A page with its tables as the code has them now."""
    for name, make in TABLES.items():
        before, mark, rest = page.partition(f"<!-- table: {name} -->\n")
        assert mark, f"the page has no place for the table {name}"
        page = before + mark + make() + "\n" + rest[rest.index("<!-- end -->"):]
    return page


def test_the_decision_table_is_that_of_the_code() -> None:
    page = (DOCS / "consistency.md").read_text(encoding="utf-8")
    assert page == with_tables(page), f"run {Path(__file__).name} as a program"


def test_every_state_of_the_table_is_shown_by_a_machine() -> None:
    shown = {cell(method, replace(HEALTHY, **change)).rstrip("*")
             for change in MACHINES.values() for method in consistency.METHODS}
    assert shown == {"-", *SHORT.values()}


def test_every_method_and_level_of_the_code_is_explained() -> None:
    words = set(re.findall(r"`(\w+)`", (DOCS / "consistency.md").read_text(encoding="utf-8")))
    kinds = {rule.kind for rule in consistency.RULES}
    assert {*consistency.METHODS, *consistency.ORDER, consistency.IMAGE, *kinds} <= words


# -- fidelity --------------------------------------------------------------------------------------------------------

def fidelity() -> list[list[str]]:
    return rows_of((DOCS / "fidelity.md").read_text(encoding="utf-8"))


def test_every_doubt_has_one_row_that_says_what_settles_it() -> None:
    rows = {row[0]: row[3] for row in fidelity() if len(row) == 4 and re.fullmatch(r"[DWF]-\d+", row[0])}
    told = {doubt: re.match(r"probe_vm|probe|by hand", how) for doubt, how in rows.items()}
    wanted = {doubt.doubt_id: "probe" if doubt.look else "probe_vm" if "probe_vm" in doubt.why_not else "by hand" for doubt in DOUBTS}
    assert {doubt: how and how[0] for doubt, how in told.items()} == wanted


def test_files_that_behaviours_name_exist() -> None:
    named = {path for row in fidelity() for path in re.findall(r"`([a-z_/0-9]+\.py)`", row[-1])}
    assert len(named) > 40
    assert sorted(path for path in named if not (SIMULATOR / path).is_file()) == []


def test_the_page_lists_the_methods_that_services_have() -> None:
    """Every other method of a Hyper-V service is a gap."""
    tree = ast.parse((SIMULATOR / "hyperv" / "registration.py").read_text(encoding="utf-8"))
    maker = next(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == "_methods")
    done = {literals(key)[0] for table in ast.walk(maker) if isinstance(table, ast.Dict)
            for key in table.keys if key is not None and literals(key) and not literals(key)[0].startswith("Msvm_")}
    page = (DOCS / "fidelity.md").read_text(encoding="utf-8")
    listed = page[page.index("Methods of the Hyper-V services that have code"):page.index("Beside them `RequestStateChange`")]
    assert set(re.findall(r"`(\w+)`", listed)) == done


def test_every_evidence_is_one_of_the_words() -> None:
    words = {row[0] for row in fidelity() if len(row) == 2 and row[0].isalpha()}
    rows = [row for row in fidelity() if len(row) == 3 and re.search(r"`[\w/]+\.py`", row[2])]
    assert len(rows) > 100
    assert [row[0] for row in rows if re.split(r"\W", row[1])[0] not in words] == []


# -- all pages -------------------------------------------------------------------------------------------------------

def headings(page: Path) -> set[str]:
    """What a link can name in a page."""
    prose = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return {anchor(title.replace("`", "")) for title in re.findall(r"^#+ (.+)$", prose, re.MULTILINE)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_links_lead_to_files_and_headings(page: Path) -> None:
    links = [link for link in _LINK.findall(page.read_text(encoding="utf-8")) if "://" not in link[0]]
    targets = {link: page.parent / link[0] if link[0] else page for link in links}
    assert [link for link, target in targets.items() if not target.exists()] == []
    assert [link for link, target in targets.items() if link[1] and link[1] not in headings(target)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_lines_are_not_too_long(page: Path) -> None:
    lines = page.read_text(encoding="utf-8").splitlines()
    assert [number for number, line in enumerate(lines, 1) if len(line) > 160] == []


if __name__ == "__main__":
    place = DOCS / "consistency.md"
    place.write_text(with_tables(place.read_text(encoding="utf-8")), encoding="utf-8")
