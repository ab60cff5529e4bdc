# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs ansible-playbook as a site would: an inventory file, the shipped playbook, the plugins that come with ansible."""
from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from simulator.fleet import Fleet

from demo.site import ACCOUNT, DESTINATION, HostPlan

CHECKOUT = Path(__file__).resolve().parents[2]
FOLDER = Path(".demo")
"""Everything that the demo makes, below the top of the checkout."""
INVENTORY = FOLDER / "inventory.yml"
CONFIGURATION = FOLDER / "ansible.cfg"
PLAYBOOK = CHECKOUT / "playbooks" / "backup.yml"
_CALLBACKS = CHECKOUT / "tests" / "e2e" / "callbacks"
_FACTS, _COPY = "agentless.hyperv.hyperv_vm_info", "agentless.hyperv.hyperv_vss_copy"


@dataclass(frozen=True)
class PlaybookRun:
    """One run: its exit code, its seconds, and the results of the two modules by host (in the letters of the site)."""

    code: int
    seconds: float
    facts: Mapping[str, Mapping[str, Any]]
    copies: Mapping[str, Mapping[str, Any]]

    def entry(self, host: str, name: str) -> Mapping[str, Any] | None:
        """What hyperv_vss_copy said of one machine."""
        entries = self.copies.get(host, {}).get("results", [])
        return next((entry for entry in entries if entry["vm"]["name"] == name), None)


def write_inventory(fleet: Fleet, plans: Sequence[HostPlan]) -> None:
    """An ordinary inventory. Only the addresses are unusual: every simulated host is a port of this machine."""
    hosts = {plan.spec.name.lower(): {"ansible_port": fleet.hosts[plan.spec.name].port, "backup_vms": list(plan.backup_vms)}
             for plan in plans}
    variables = {
        "ansible_connection": "winrm", "ansible_host": "127.0.0.1", "ansible_winrm_scheme": "http", "ansible_winrm_transport": "ntlm",
        "ansible_user": ACCOUNT.name, "ansible_password": ACCOUNT.password, "backup_destination": DESTINATION, "backup_max_age": "20h",
        "backup_gather": ["disks", "checkpoints", "integration", "replication", "security", "readiness"]}
    text = yaml.safe_dump({"hyperv": {"hosts": hosts, "vars": variables}}, allow_unicode=True, sort_keys=False)
    INVENTORY.write_text(f"---\n{text}", encoding="utf-8")


def write_configuration() -> None:
    """An ansible.cfg with where the collection is; ansible's own files stay in the folder of the demo."""
    lines = ["[defaults]", f"home = {CONFIGURATION.parent.resolve() / 'ansible'}", "nocows = true", "nocolor = true"]
    collections = os.environ.get("ANSIBLE_COLLECTIONS_PATH")
    if collections:
        lines.append(f"collections_path = {collections}")
    CONFIGURATION.write_text("\n".join(lines) + "\n", encoding="utf-8")


def run(folder: Path, show: Callable[[str], None]) -> PlaybookRun:
    """Run the playbook; every line of its output goes to ``show`` at once. ``folder`` is made for the results.

    Paths are relative to the top of the checkout, which is the current folder.
    """
    folder.mkdir()
    record = folder.resolve() / "results.jsonl"
    command = [str(Path(sys.executable).parent / "ansible-playbook"), str(PLAYBOOK.relative_to(CHECKOUT)), "-i", str(INVENTORY)]
    show(f"$ {' '.join(['ansible-playbook', *command[1:]])}")
    began = time.monotonic()
    process = subprocess.Popen(  # noqa: S603  # a fixed command
        command, cwd=CHECKOUT, env=_environment(record), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, encoding="utf-8", errors="replace", start_new_session=True)
    try:
        for line in process.stdout or ():
            show(line.rstrip())
        code = process.wait()
    finally:
        _end(process)
    facts, copies = _read(record)
    return PlaybookRun(code, time.monotonic() - began, facts, copies)


def _end(process: subprocess.Popen[str]) -> None:
    """After an interruption: ansible-playbook and its workers, which have a session of their own, end too."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)


def _environment(record: Path) -> dict[str, str]:
    """That of the caller, but no setting of ansible except the file; a callback writes the results down as values."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    return {**kept, "ANSIBLE_CONFIG": str(CONFIGURATION.resolve()), "ANSIBLE_CALLBACK_PLUGINS": str(_CALLBACKS),
            "ANSIBLE_CALLBACKS_ENABLED": "record", "RECORD_FILE": str(record), "PYTHONUNBUFFERED": "1"}


def _read(record: Path) -> tuple[dict[str, Mapping[str, Any]], dict[str, Mapping[str, Any]]]:
    facts: dict[str, Mapping[str, Any]] = {}
    copies: dict[str, Mapping[str, Any]] = {}
    for line in record.read_text(encoding="utf-8").splitlines() if record.exists() else []:
        entry = json.loads(line)
        wanted = {_FACTS: facts, _COPY: copies}.get(entry["action"])
        if wanted is not None:
            wanted[entry["host"].upper()] = _joined(entry["result"]) if wanted is copies else entry["result"]
    return facts, copies


def _joined(result: Mapping[str, Any]) -> Mapping[str, Any]:
    """The result of a task that the role repeats for each policy, as if there were one policy only."""
    return {**result, "results": [entry for policy in result.get("results", []) for entry in policy.get("results", [])]}
