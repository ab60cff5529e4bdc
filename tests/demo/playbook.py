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
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from simulator.fleet import Fleet

from demo import processes
from demo.site import ACCOUNT, DESTINATION, DRILLS, EXPORT_HOST, EXPORT_VM, EXPORTS, HostPlan

CHECKOUT = Path(__file__).resolve().parents[2]
FOLDER = Path(".demo")
"""Everything that the demo makes, below the top of the checkout."""
INVENTORY = FOLDER / "inventory.yml"
CONFIGURATION = FOLDER / "ansible.cfg"
BACKUP = CHECKOUT / "playbooks" / "backup.yml"
CLEANUP = CHECKOUT / "playbooks" / "shadow_cleanup.yml"
DRILL = CHECKOUT / "playbooks" / "restore_drill.yml"
REPORT = CHECKOUT / "playbooks" / "report.yml"
EVIDENCE, PAGE = FOLDER / "restore_drill", FOLDER / "report" / "report.html"
LOOK_EVERY = 0.02
"""Seconds between two looks for the moment to kill a run."""
_CALLBACKS = CHECKOUT / "tests" / "e2e" / "callbacks"
_FACTS, _COPY, _CLEANUP, _EXPORT, _RESTORE = (f"agentless.hyperv.hyperv_{name}" for name in (
    "vm_info", "vss_copy", "cleanup", "export", "restore"))


@dataclass(frozen=True)
class PlaybookRun:
    """One run: its exit code, its seconds, and the results of the modules by host (in the letters of the site)."""

    code: int
    seconds: float
    facts: Mapping[str, Mapping[str, Any]]
    copies: Mapping[str, Mapping[str, Any]]
    cleanups: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    exports: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    restores: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def entry(self, host: str, name: str) -> Mapping[str, Any] | None:
        """What hyperv_vss_copy said of one machine."""
        entries = self.copies.get(host, {}).get("results", [])
        return next((entry for entry in entries if entry["vm"]["name"] == name), None)


def write_inventory(fleet: Fleet, plans: Sequence[HostPlan], *, exports: bool = False) -> None:
    """An ordinary inventory. Only the addresses are unusual: every simulated host is a port of this machine.

    ``exports``: it names one machine more, with a policy that exports it.
    """
    more = {EXPORT_HOST: [{"name": EXPORT_VM, "policy": "quiesced"}]} if exports else {}
    hosts = {plan.spec.name.lower(): {"ansible_port": fleet.hosts[plan.spec.name].port,
                                      "backup_vms": [*plan.backup_vms, *more.get(plan.spec.name, [])]} for plan in plans}
    variables = {
        "ansible_connection": "winrm", "ansible_host": "127.0.0.1", "ansible_winrm_scheme": "http", "ansible_winrm_transport": "ntlm",
        "ansible_user": ACCOUNT.name, "ansible_password": ACCOUNT.password, "backup_destination": DESTINATION, "backup_max_age": "20h",
        "backup_gather": ["disks", "checkpoints", "integration", "replication", "security", "readiness"],
        "backup_policies": {"quiesced": {"method": "export", "consistency": "application", "destination": EXPORTS}},
        "restore_drill_destination": EXPORTS, "restore_drill_location": DRILLS, "restore_drill_report": str(EVIDENCE.resolve()),
        "report_folder": str(PAGE.parent.resolve())}
    text = yaml.safe_dump({"hyperv": {"hosts": hosts, "vars": variables}}, allow_unicode=True, sort_keys=False)
    INVENTORY.write_text(f"---\n{text}", encoding="utf-8")


def write_configuration() -> None:
    """An ansible.cfg with where the collection is; ansible's own files stay in the folder of the demo."""
    lines = ["[defaults]", f"home = {CONFIGURATION.parent.resolve() / 'ansible'}", "nocows = true", "nocolor = true"]
    collections = os.environ.get("ANSIBLE_COLLECTIONS_PATH")
    if collections:
        lines.append(f"collections_path = {collections}")
    CONFIGURATION.write_text("\n".join(lines) + "\n", encoding="utf-8")


def run(folder: Path, show: Callable[[str], None], playbook: Path = BACKUP, *arguments: str) -> PlaybookRun:
    """Run a playbook; every line of its output goes to ``show`` at once. ``folder`` is made for the results.

    Paths are relative to the top of the checkout, which is the current folder.
    """
    record = _record(folder)
    began = time.monotonic()
    process = _start(record, show, playbook, *arguments)
    try:
        for line in process.stdout or ():
            show(line.rstrip())
        code = process.wait()
    finally:
        _end(process)
    found = read_record(record)
    return PlaybookRun(code, time.monotonic() - began, found[_FACTS], found[_COPY], found[_CLEANUP], found[_EXPORT], found[_RESTORE])


def run_and_kill(folder: Path, show: Callable[[str], None], reached: Callable[[], bool], patience: float = 60.0) -> int:
    """Run the backup, and kill it with all its workers by SIGKILL as soon as ``reached``; its exit code.

    That is ``-SIGKILL``, unless it ended by itself before. After ``patience`` seconds it is ended like any other.
    """
    process = _start(_record(folder), show, BACKUP)
    reader = threading.Thread(target=_relay, args=(process, show), daemon=True)
    reader.start()
    try:
        deadline = time.monotonic() + patience
        while process.poll() is None and time.monotonic() < deadline:
            if reached():
                processes.kill(process)
                break
            time.sleep(LOOK_EVERY)
    finally:
        _end(process)
        reader.join(5)
    return process.returncode


def _relay(process: subprocess.Popen[str], show: Callable[[str], None]) -> None:
    for line in process.stdout or ():
        show(line.rstrip())


def _record(folder: Path) -> Path:
    folder.mkdir()
    return folder.resolve() / "results.jsonl"


def _start(record: Path, show: Callable[[str], None], playbook: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [str(Path(sys.executable).parent / "ansible-playbook"), str(playbook.relative_to(CHECKOUT)), "-i", str(INVENTORY), *arguments]
    show(f"$ {' '.join(['ansible-playbook', *command[1:]])}")
    return subprocess.Popen(  # noqa: S603  # a fixed command
        command, cwd=CHECKOUT, env=_environment(record), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, encoding="utf-8", errors="replace", start_new_session=True)


def _end(process: subprocess.Popen[str]) -> None:
    """After an interruption: ansible-playbook, which has a session of its own, and its workers end too."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
        processes.kill(process)


def _environment(record: Path) -> dict[str, str]:
    """That of the caller, but no setting of ansible except the file; a callback writes the results down as values."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    return {**kept, "ANSIBLE_CONFIG": str(CONFIGURATION.resolve()), "ANSIBLE_CALLBACK_PLUGINS": str(_CALLBACKS),
            "ANSIBLE_CALLBACKS_ENABLED": "record", "RECORD_FILE": str(record), "PYTHONUNBUFFERED": "1"}


def read_record(record: Path) -> dict[str, dict[str, Mapping[str, Any]]]:
    """The last result of each module on each host; a task that was skipped has none."""
    found: dict[str, dict[str, Mapping[str, Any]]] = {name: {} for name in (_FACTS, _COPY, _CLEANUP, _EXPORT, _RESTORE)}
    for line in record.read_text(encoding="utf-8").splitlines() if record.exists() else []:
        entry = json.loads(line)
        if entry["action"] in found and entry["status"] != "skipped":
            result = entry["result"]
            found[entry["action"]][entry["host"].upper()] = _joined(result) if entry["action"] in (_COPY, _EXPORT) else result
    return found


def _joined(result: Mapping[str, Any]) -> Mapping[str, Any]:
    """The result of a task that the role repeats for each policy, as if there were one policy only."""
    return {**result, "results": [entry for policy in result.get("results", []) for entry in policy.get("results", [])]}
