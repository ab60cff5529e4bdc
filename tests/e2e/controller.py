# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs ansible-playbook as a user does, and gives the tests the results as values."""
from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from starter import starter

E2E = Path(__file__).resolve().parent
COMMAND = re.compile(r"^ {4}ansible-playbook agentless\.hyperv\.(?P<playbook>\w+) -i inventory\.yml(?P<arguments>[^#\n]*)", re.MULTILINE)
"""A command of a page: a playbook of the collection, and its other arguments; a comment may follow."""
CHECKOUT = E2E.parents[1]
BIN = Path(sys.executable).parent


def commands(page: Path) -> list[tuple[str, ...]]:
    """The arguments of the commands of a page that is about one playbook, in their order."""
    return [tuple(match["arguments"].split()) for match in COMMAND.finditer(page.read_text(encoding="utf-8"))]


@dataclass(frozen=True)
class TaskResult:
    """One task on one host."""

    status: str
    host: str
    task: str
    action: str
    result: dict[str, Any]

    def __getitem__(self, key: str) -> Any:
        return self.result[key]


@dataclass(frozen=True)
class Run:
    """One run of ansible-playbook."""

    code: int
    output: str
    results: tuple[TaskResult, ...] = field(repr=False)

    def one(self, task: str | None = None, host: str | None = None) -> TaskResult:
        """The only result of that task and host; the assertion shows the whole output otherwise."""
        found = [r for r in self.results if task in (None, r.task) and host in (None, r.host)]
        assert len(found) == 1, f"{len(found)} results\n{self.output}"
        return found[0]

    def of(self, task: str) -> dict[str, TaskResult]:
        """The results of one task by host."""
        return {r.host: r for r in self.results if r.task == task}


class Controller:
    """A folder of its own with an inventory; environment and home are cut off from the machine's."""

    def __init__(self, folder: Path, collections: Path) -> None:
        self.folder = folder
        self._collections = collections
        self._runs = 0

    def environment(self, record: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment of one run."""
        return {
            "PATH": f"{BIN}:{os.environ.get('PATH', os.defpath)}", "HOME": str(self.folder), "LC_ALL": "C.UTF-8", "NO_COLOR": "1",
            "ANSIBLE_HOME": str(self.folder / "home"), "ANSIBLE_LOCAL_TEMP": str(self.folder / "tmp"), "ANSIBLE_NOCOWS": "1",
            "ANSIBLE_COLLECTIONS_PATH": str(self._collections), "ANSIBLE_CALLBACK_PLUGINS": str(E2E / "callbacks"),
            "ANSIBLE_CALLBACKS_ENABLED": "record", "RECORD_FILE": str(record), "ANSIBLE_RETRY_FILES_ENABLED": "0",
            "ANSIBLE_DEPRECATION_WARNINGS": "1", "PYTHONDONTWRITEBYTECODE": "1", **(extra or {}),
        }

    def inventory(self, hosts: Mapping[str, Mapping[str, Any]], variables: Mapping[str, Any] | None = None) -> Path:
        """Write an inventory file: hosts with their variables, and variables for all."""
        path = self.folder / "inventory.yml"
        content = {"all": {"children": {"hyperv": {"hosts": {name: dict(values) for name, values in hosts.items()}}},
                           "vars": dict(variables or {})}}
        path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
        return path

    def play(self, tasks: Sequence[Mapping[str, Any]] | Path, inventory: Path, *arguments: str, keywords: Mapping[str, Any] | None = None,
             environment: Mapping[str, str] | None = None, stdin: str | None = None, seconds: float = 120) -> Run:
        """Run tasks (or a playbook file) against the group ``hyperv``; ``arguments`` go to ansible-playbook."""
        self._runs += 1
        record = self.folder / f"record-{self._runs}.jsonl"
        if isinstance(tasks, Path):
            playbook = tasks
        else:
            playbook = self.folder / f"play-{self._runs}.yml"
            play = {"hosts": "hyperv", "gather_facts": False, "tasks": [dict(task) for task in tasks], **(keywords or {})}
            playbook.write_text(yaml.safe_dump([play], allow_unicode=True, sort_keys=False), encoding="utf-8")
        done = starter().run([str(BIN / "ansible-playbook"), "-i", str(inventory), str(playbook), *arguments], stdin=stdin,
                             env=self.environment(record, environment), cwd=self.folder, timeout=seconds)
        lines = record.read_text(encoding="utf-8").splitlines() if record.exists() else []
        return Run(done.returncode, done.stdout + done.stderr, tuple(TaskResult(**json.loads(line)) for line in lines))
