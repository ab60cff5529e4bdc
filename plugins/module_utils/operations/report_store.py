# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``hyperv_report``: makes the report of a fleet, writes it on the controller, and stores it at a destination through a host.

With ``keep`` older reports are removed there by the job that stores the new one, after it was stored.
"""
from __future__ import annotations

import os
import re
import secrets
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimWriter
from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Deadline
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.module import Call, Plan, Step
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import destinations, inventory, retention_options, run_as
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.destinations import Destination
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.inventory import HostFacts
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.run_as import Identity
from ansible_collections.agentless.hyperv.plugins.module_utils.protection import report_html, report_text, stored_names
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.freshness import parse_age
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.report import Report, build
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.report_facts import read_host, silent
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.report_rules import Limits
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import files, job_runs, report_jobs, state
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.jobs import JobResult
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.programs import reading_programs
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.tasks import TaskName

FORMATS: Mapping[str, tuple[str, Callable[[Report], str]]] = {
    "html": ("report.html", report_html.as_html), "json": ("report.json", report_text.as_json), "csv": ("report.csv", report_text.as_csv),
    "junit": ("report.junit.xml", report_text.as_junit), "prometheus": ("report.prom", report_text.as_prometheus),
}
PATIENCE = 900.0


@dataclass(frozen=True)
class Place:
    """Where the report is stored, through which host, and by whom. ``new``: the name of its folder."""

    facts: HostFacts
    destination: Destination
    identity: Identity
    run_id: str
    new: str

    @property
    def folder(self) -> str:
        """The folder of the new report."""
        return report_jobs.folder_of(self.destination.path, self.new)


def run(call: Call) -> dict[str, Any]:
    """A report is new each time: it says when it was made."""
    params = call.params
    made, mode = call.clock.utcnow(), _mode(params["mode"])
    report = build([*_facts(params["hosts"]), *map(silent, params["silent"])], _limits(params), made, params["title"])
    place = _place(call, made) if params["destination"] else None
    doomed = _doomed(call, place, made) if place is not None else ()
    steps = [Step("write", str(Path(params["folder"]) / FORMATS[kind][0])) for kind in _formats(params)]
    told: dict[str, Any] = {
        "good": report.good, "counts": report.counts, "files": [step.target for step in steps],
        "stored": None if place is None else place.folder, "pruned": None if place is None or doomed is None else _paths(place, doomed),
        "unprotected": [{"host": vm.host, "vm_id": vm.vm.vm_id, "name": vm.vm.name} for vm in report.vms if vm.status == "unprotected"],
        "silent": [host.name for host in report.silent]}
    if place is not None:
        steps += [Step("store", place.folder), *(Step("prune", path) for path in told["pruned"] or ())]

    def apply(writer: CimWriter) -> dict[str, Any]:
        for kind in _formats(params):
            _write(Path(params["folder"]), FORMATS[kind][0], FORMATS[kind][1](report), mode)
        if place is not None:
            result = _store(call, writer, place, report, doomed or ())
            told["pruned"] = _paths(place, _gone(call, place, doomed or (), result))
        return told

    return call.conclude(Plan(tuple(steps), {}, {}, told), apply)


def _paths(place: Place, names: Sequence[str]) -> list[str]:
    return [report_jobs.folder_of(place.destination.path, name) for name in names]


def _facts(hosts: Any) -> list[Any]:
    try:
        return [read_host(host) for host in hosts]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise HypervError(f"hosts is not what the role report gathers: {type(error).__name__}: {error}.", error_code="invalid_facts",
                          hint="Each entry has host, and info as hyperv_protection_info returns it.") from error


def _mode(text: str) -> int:
    """The mode of files. YAML reads one without quotes as another number, which has no 0 before it any more."""
    if not re.fullmatch("0[0-7]{3}", text):
        raise HypervError(f"{text!r} is no mode of a file.", error_code="invalid_mode", hint='Four octal digits in quotes, such as "0640".')
    return int(text, 8)


def _limits(params: Mapping[str, Any]) -> Limits:
    try:
        rpo, drill, test = (parse_age(params[name]) if params[name] else None for name in ("rpo", "drill_interval", "test_interval"))
        return Limits(rpo, parse_age(params["replica_lag"]), drill, test)
    except ValueError as error:
        raise HypervError(f"rpo, replica_lag, drill_interval or test_interval: {error}", error_code="invalid_max_age") from error


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


def _place(call: Call, made: datetime) -> Place:
    identity = run_as.read(call.params)
    if identity.task is None:
        raise HypervError("A report is stored by a task of the host, which run_as: session has not.", error_code="destination_needs_task",
                          hint="Use run_as: system or run_as: account.")
    parts = ("state",) if destinations.is_share(call.params["destination"]) else ("disks",)
    facts = inventory.read_host(call.reader, call.clock, parts)
    run_id = secrets.token_hex(6)
    return Place(facts, destinations.check(facts, call.params["destination"], identity), identity, run_id,
                 report_jobs.folder_name(made, run_id))


def _doomed(call: Call, place: Place, made: datetime) -> tuple[str, ...] | None:
    """The reports that go, the oldest first; None when nobody can look without a task, in check mode."""
    keep, timezone = retention_options.read(call.params["keep"], call.params["timezone"])
    if keep.empty:
        return ()
    found = call.through_host(lambda writer: _at_share(call, writer, place)) if place.destination.is_share else _local(call, place)
    if found is None:
        call.warn(f"Check mode does not look at {place.destination.path}: that needs a task on the host. Which reports would go is not "
                  "known.")
        return None
    return stored_names.going(found, place.new, keep, now=made, timezone=timezone)


def _local(call: Call, place: Place) -> dict[str, bool]:
    with reading_programs(call.reader, {"REPORTS": report_jobs.reports_of(place.destination.path)}) as programs:
        if programs.run(report_jobs.READABLE, timeout=files.SHORT).exit_code != 0:
            raise _unreadable(place, "the account of the connection")
        return report_jobs.listed(programs.run(report_jobs.LIST, timeout=files.SHORT).stdout)


def _at_share(call: Call, writer: CimWriter, place: Place) -> dict[str, bool]:
    """One task, which ends before the one that stores begins: what goes is part of the plan."""
    folder = state.state_folder(place.facts.system.system_drive)
    state.ensure(writer, folder)
    result, outputs = destinations.look_at_share(writer, folder, place.run_id, place.identity,
                                                 report_jobs.list_job(place.destination.path), clock=call.clock)
    if result.failed:
        raise _unreadable(place, place.identity.at_share(place.facts.system.name))
    return report_jobs.listed(b"\r\n".join(outputs.get(step, b"") for step in ("folders", "whole")))


def _unreadable(place: Place, who: str) -> HypervError:
    return HypervError(f"The reports in {report_jobs.reports_of(place.destination.path)} could not be listed by {who}.",
                       error_code="destination_unreadable", hint="Give that account the right to read there, or leave keep out.")


def _store(call: Call, writer: CimWriter, place: Place, report: Report, doomed: Sequence[str]) -> JobResult:
    identity, destination = place.identity, place.destination
    if identity.task is None:
        raise ValueError("a report is stored by a task")
    folder = state.state_folder(place.facts.system.system_drive)
    state.ensure(writer, folder)
    documents = {report_jobs.PAGE: report_html.as_html(report), report_jobs.DATA: report_text.as_json(report)}
    job = report_jobs.report_job(destination.path, place.new, documents, doomed)
    name = TaskName("host", place.run_id, "report")
    end = job_runs.run(writer, folder, name, job, identity.task, clock=call.clock, deadline=Deadline(call.clock, PATIENCE))
    if end.result is None:
        raise HypervError(f"The report was not stored at {destination.path} within {PATIENCE / 60:.0f} minutes.",
                          error_code="report_not_stored", leftovers=job_runs.remove(writer, folder, name, clock=call.clock))
    knocks_as = identity.at_share(place.facts.system.name) if destination.is_share else "SYSTEM"
    report_jobs.expect_stored(end.result, place.folder, knocks_as)
    for leftover in end.leftovers:
        call.warn(f"{leftover.location} could not be removed: {leftover.remove_with}")
    return end.result


def _gone(call: Call, place: Place, doomed: Sequence[str], result: JobResult) -> tuple[str, ...]:
    """The reports that are gone. The others are told: the new report is stored all the same."""
    removed = report_jobs.removed(doomed, result)
    for one in removed:
        if not one.gone:
            why = "a link is in the way, or in it" if one.link else "something else is in it, or a file of it is in use"
            call.warn(f"The report {report_jobs.folder_of(place.destination.path, one.name)} was not removed: {why}.")
    return tuple(one.name for one in removed if one.gone)
