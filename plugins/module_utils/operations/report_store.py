# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``hyperv_report``: makes the report of a fleet, writes it on the controller, and stores it at a destination through a host."""
from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimWriter
from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Deadline
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.module import Call, Plan, Step
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import destinations, inventory, run_as
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.destinations import Destination
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.inventory import HostFacts
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.run_as import Identity
from ansible_collections.agentless.hyperv.plugins.module_utils.protection import report_html, report_text
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.freshness import parse_age
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.report import Report, build
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.report_facts import read_host, silent
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.report_rules import Limits
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import job_runs, report_jobs, state
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.tasks import TaskName

FORMATS: Mapping[str, tuple[str, Callable[[Report], str]]] = {
    "html": ("report.html", report_html.as_html), "json": ("report.json", report_text.as_json), "csv": ("report.csv", report_text.as_csv),
    "junit": ("report.junit.xml", report_text.as_junit), "prometheus": ("report.prom", report_text.as_prometheus),
}
PATIENCE = 900.0


def run(call: Call) -> dict[str, Any]:
    """A report is new each time: it says when it was made."""
    params = call.params
    made = call.clock.utcnow()
    report = build([*_facts(params["hosts"]), *map(silent, params["silent"])], _limits(params), made, params["title"])
    place = _place(call) if params["destination"] else None
    steps = [Step("write", str(Path(params["folder"]) / FORMATS[kind][0])) for kind in _formats(params)]
    run_id = secrets.token_hex(6)
    name = report_jobs.folder_name(made, run_id)
    stored = None if place is None else report_jobs.folder_of(place[1].path, name)
    if stored is not None:
        steps.append(Step("store", stored))
    told: dict[str, Any] = {
        "good": report.good, "counts": report.counts, "files": [step.target for step in steps if step.action == "write"], "stored": stored,
        "unprotected": [{"host": vm.host, "vm_id": vm.vm.vm_id, "name": vm.vm.name} for vm in report.vms if vm.status == "unprotected"],
        "silent": [host.name for host in report.silent]}

    def apply(writer: CimWriter) -> dict[str, Any]:
        for kind in _formats(params):
            _write(Path(params["folder"]), FORMATS[kind][0], FORMATS[kind][1](report), int(params["mode"], 8))
        if place is not None:
            _store(call, writer, place, report, name, run_id)
        return told

    return call.conclude(Plan(tuple(steps), {}, {}, told), apply)


def _facts(hosts: Any) -> list[Any]:
    try:
        return [read_host(host) for host in hosts]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise HypervError(f"hosts is not what the role report gathers: {type(error).__name__}: {error}.", error_code="invalid_facts",
                          hint="Each entry has host, and info as hyperv_protection_info returns it.") from error


def _limits(params: Mapping[str, Any]) -> Limits:
    try:
        return Limits(parse_age(params["rpo"]) if params["rpo"] else None, parse_age(params["replica_lag"]))
    except ValueError as error:
        raise HypervError(f"rpo or replica_lag: {error}", error_code="invalid_max_age") from error


def _formats(params: Mapping[str, Any]) -> list[str]:
    return list(params["formats"]) if params["folder"] else []


# -- on the controller ---------------------------------------------------------------------------------------------------


def _write(folder: Path, name: str, text: str, mode: int) -> None:
    """Whole or not at all: a page that somebody is reading is never half of one."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=folder)
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="") as stream:
                stream.write(text)
            Path(temporary).chmod(mode)
            Path(temporary).replace(folder / name)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise HypervError(f"{folder / name} could not be written on the controller: {error.strerror}.", error_code="report_not_written",
                          hint="Give a folder that the user of ansible may write to.") from error


# -- at a destination ----------------------------------------------------------------------------------------------------


def _place(call: Call) -> tuple[HostFacts, Destination, Identity]:
    identity = run_as.read(call.params)
    if identity.task is None:
        raise HypervError("A report is stored by a task of the host, which run_as: session has not.", error_code="destination_needs_task",
                          hint="Use run_as: system or run_as: account.")
    parts = ("state",) if call.params["destination"].startswith(("\\\\", "//")) else ("disks",)
    facts = inventory.read_host(call.reader, call.clock, parts)
    return facts, destinations.check(facts, call.params["destination"], identity), identity


def _store(call: Call, writer: CimWriter, place: tuple[HostFacts, Destination, Identity], report: Report, into: str,
           run_id: str) -> None:
    facts, destination, identity = place
    if identity.task is None:
        raise ValueError("a report is stored by a task")
    folder = state.state_folder(facts.system.system_drive)
    state.ensure(writer, folder)
    documents = {report_jobs.PAGE: report_html.as_html(report), report_jobs.DATA: report_text.as_json(report)}
    job = report_jobs.report_job(destination.path, into, documents)
    name = TaskName("host", run_id, "report")
    end = job_runs.run(writer, folder, name, job, identity.task, clock=call.clock, deadline=Deadline(call.clock, PATIENCE))
    if end.result is None:
        raise HypervError(f"The report was not stored at {destination.path} within {PATIENCE / 60:.0f} minutes.",
                          error_code="report_not_stored", leftovers=job_runs.remove(writer, folder, name, clock=call.clock))
    knocks_as = identity.at_share(facts.system.name) if destination.is_share else "SYSTEM"
    report_jobs.expect_stored(end.result, report_jobs.folder_of(destination.path, into), knocks_as)
    for leftover in end.leftovers:
        call.warn(f"{leftover.location} could not be removed: {leftover.remove_with}")
