# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report as JSON, CSV, JUnit and Prometheus text. Names of VMs are any text: each format has the one function that makes them harmless.

Everything is ASCII or, where the format has no escape for it, UTF-8.
"""
from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from xml.etree import ElementTree

from ansible_collections.agentless.hyperv.plugins.module_utils.protection.report import Report, VmReport
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.report_hosts import findings, notes
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.report_rules import SEVERE, STATUSES

COLUMNS = ("status", "host", "vm", "vm_id", "state", "policy", "method", "rpo_seconds", "age_seconds", "last_taken", "last_kind",
           "last_verified", "last_requested", "last_achieved", "last_seconds", "last_bytes", "last_folder", "good_copies", "bytes",
           "next_prune", "next_prune_bytes", "replica_health", "replica_lag_seconds", "checkpoints", "last_drill_passed", "last_test",
           "problems", "advice")
NO_ANSWER = "no_answer"
"""The status of a row that stands for a host of which nothing is known, and its virtual machines."""
_FORMULA = re.compile("(?:\\A|(?<=[;\t\r\n]))(?=[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20])")
"""Where a formula would begin: at the start of a text, and behind what separates cells in spreadsheets where a comma is decimal."""
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
METRICS = "agentless_hyperv"


def as_json(report: Report) -> str:
    """The JSON document."""
    return json.dumps(report.as_data(), ensure_ascii=True, indent=1) + "\n"


# -- CSV -----------------------------------------------------------------------------------------------------------------


def cell(value: object) -> object:
    """A value that no spreadsheet takes for a formula, whatever a VM is called; numbers stay numbers."""
    return _FORMULA.sub("'", value) if isinstance(value, str) else value


def as_csv(report: Report) -> str:
    """A table of all VMs, the worst first (RFC 4180); before them a row for each host without an answer, so that nobody takes a table
    for whole that is not."""
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    silent = ({"status": NO_ANSWER, "host": host.name, "problems": f"{host.error_code}: {host.msg}"} for host in report.silent)
    for row in (*silent, *map(_row, report.vms)):
        writer.writerow([cell("" if row.get(column) is None else row[column]) for column in COLUMNS])
    return out.getvalue()


def _row(vm: VmReport) -> Mapping[str, object]:
    data = vm.as_data()
    last, replica = data["last_copy"] or {}, data["replica"] or {}
    consistency = last.get("consistency") or {}
    return {
        "status": vm.status, "host": vm.host, "vm": vm.vm.name, "vm_id": vm.vm.vm_id, "state": vm.vm.state, "policy": data["policy"],
        "method": data["method"], "rpo_seconds": data["rpo"], "age_seconds": data["age"], "last_taken": last.get("taken"),
        "last_kind": last.get("kind"), "last_verified": last.get("verified"), "last_requested": consistency.get("requested"),
        "last_achieved": consistency.get("achieved"), "last_seconds": last.get("duration"), "last_bytes": last.get("size"),
        "last_folder": last.get("folder"), "good_copies": vm.good, "bytes": vm.size, "next_prune": len(vm.doomed),
        "replica_health": replica.get("health"), "replica_lag_seconds": replica.get("lag"), "checkpoints": vm.vm.checkpoints,
        "problems": " ".join(problem.text for problem in vm.problems),
        "advice": " ".join(problem.advice for problem in vm.problems if problem.advice),
        "next_prune_bytes": sum(copy.size for copy in vm.doomed), "last_drill_passed": (data["last_drill"] or {}).get("passed"),
        "last_test": data["last_test"]}


# -- JUnit ---------------------------------------------------------------------------------------------------------------


def xml_text(text: str) -> str:
    """Text without what XML has no way to write."""
    return _NOT_XML.sub("\ufffd", text)


def as_junit(report: Report) -> str:
    """A test suite for each host, a test case for each VM. What is severe is a failure, a host without an answer an error, what is not
    known an error of its VM, what was left out is skipped. What is to be said of a host stands in the output of its suite."""
    root = ElementTree.Element("testsuites", name=xml_text(report.title))
    by_host: dict[str, list[VmReport]] = {host.name: [] for host in report.hosts}
    for vm in report.vms:
        by_host[vm.host].append(vm)
    for host in report.hosts:
        cases = list(_cases(by_host[host.name]))
        if host.error_code is not None:
            cases = [_case(host.name, "host", "error", host.error_code, host.msg or "")]
        suite = ElementTree.SubElement(
            root, "testsuite", name=xml_text(host.name), tests=str(len(cases)), timestamp=report.made.strftime("%Y-%m-%dT%H:%M:%S"),
            failures=str(_with(cases, "failure")), errors=str(_with(cases, "error")), skipped=str(_with(cases, "skipped")))
        suite.extend(cases)
        told = [*(f"{finding.text} {finding.advice}" for finding in findings(host)), *notes(host)]
        if told:
            ElementTree.SubElement(suite, "system-out").text = xml_text("\n".join(told))
    ElementTree.indent(root, " ")
    written: bytes = ElementTree.tostring(root, encoding="us-ascii", xml_declaration=True)
    return written.decode("ascii") + "\n"


def _with(cases: Iterable[ElementTree.Element], tag: str) -> int:
    return sum(1 for case in cases if case.find(tag) is not None)


def _cases(vms: Iterable[VmReport]) -> Iterator[ElementTree.Element]:
    for vm in vms:
        name = f"{vm.vm.name} ({vm.vm.vm_id})"
        text = "\n".join(f"{problem.text} {problem.advice}".strip() for problem in vm.problems)
        kind = "failure" if vm.status in SEVERE else {"unknown": "error", "left_out": "skipped"}.get(vm.status)
        yield _case(vm.host, name, kind, vm.status, text)


def _case(host: str, name: str, kind: str | None, word: str, text: str) -> ElementTree.Element:
    case = ElementTree.Element("testcase", classname=xml_text(host), name=xml_text(name))
    if kind is None:
        if text:
            ElementTree.SubElement(case, "system-out").text = xml_text(text)
        return case
    attributes = {"message": xml_text(text.partition("\n")[0] or word)}
    inner = ElementTree.SubElement(case, kind, attributes if kind == "skipped" else {"type": word, **attributes})
    inner.text = xml_text(text)
    return case


# -- Prometheus ----------------------------------------------------------------------------------------------------------


def label(text: str) -> str:
    """A label's value in the text format of Prometheus, without what a line or a quote could end in."""
    printable = "".join(character if character.isprintable() or character == "\n" else "\ufffd" for character in text)
    return printable.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def as_prometheus(report: Report) -> str:
    """Metrics for the textfile collector: one set for each VM and each host."""
    lines: list[str] = []
    for name, about, samples in _metrics(report):
        lines += [f"# HELP {METRICS}_{name} {about}", f"# TYPE {METRICS}_{name} gauge"]
        lines += [f"{METRICS}_{name}{_labels(labels)} {value}" for labels, value in samples]
    return "\n".join(lines) + "\n"


Samples = list[tuple[Mapping[str, str], int]]


def _labels(labels: Mapping[str, str]) -> str:
    return "{" + ",".join(f'{name}="{label(value)}"' for name, value in labels.items()) + "}" if labels else ""


def _of(vm: VmReport) -> dict[str, str]:
    return {"host": vm.host, "vm": vm.vm.name, "vm_id": vm.vm.vm_id, "policy": vm.vm.policy.name if vm.vm.policy else ""}


def _metrics(report: Report) -> Iterator[tuple[str, str, Samples]]:
    vms, hosts = report.vms, report.hosts
    yield "report_timestamp_seconds", "When the report was made.", [({}, _stamp(report.made))]
    yield "host_up", "Whether the host answered.", [({"host": host.name}, int(host.error_code is None)) for host in hosts]
    yield "vms", "Virtual machines by status.", [({"status": status}, report.counts[status]) for status in STATUSES]
    yield "vm_status", "1 for the status that the virtual machine has.", [({**_of(vm), "status": vm.status}, 1) for vm in vms]
    yield "vm_rpo_seconds", "How old the last good copy may be.", [
        (_of(vm), int(vm.rpo.total_seconds())) for vm in vms if vm.rpo is not None]
    yield "vm_last_copy_timestamp_seconds", "The instant of the data of the last good copy.", [
        (_of(vm), _stamp(vm.last.taken)) for vm in vms if vm.last is not None]
    yield "vm_last_copy_bytes", "Size of the last good copy.", [(_of(vm), vm.last.size) for vm in vms if vm.last is not None]
    yield "vm_last_copy_duration_seconds", "From the instant of the data until the copy was complete.", [
        (_of(vm), int((vm.last.completed - vm.last.taken).total_seconds())) for vm in vms if vm.last is not None]
    yield "vm_last_copy_consistency", "1 for the consistency of the last good copy, beside the one that was asked for.", [
        ({**_of(vm), "requested": vm.last.requested, "achieved": vm.last.achieved}, 1) for vm in vms if vm.last is not None]
    yield "vm_next_prune_copies", "Copies that go once the next one is there.", [
        (_of(vm), len(vm.doomed)) for vm in vms if vm.vm.policy is not None]
    yield "vm_next_prune_bytes", "Size of these copies.", [
        (_of(vm), sum(copy.size for copy in vm.doomed)) for vm in vms if vm.vm.policy is not None]
    yield "vm_checkpoints", "Number of checkpoints.", [(_of(vm), vm.vm.checkpoints) for vm in vms]
    yield "vm_last_drill_timestamp_seconds", "The last restore drill that it passed.", [
        (_of(vm), _stamp(vm.drilled.passed)) for vm in vms if vm.drilled is not None and vm.drilled.passed is not None]
    yield "vm_last_test_timestamp_seconds", "The last test failover of a replica.", [
        (_of(vm), _stamp(vm.tested)) for vm in vms if vm.tested is not None]
    yield "vm_good_copies", "Number of good copies.", [(_of(vm), vm.good) for vm in vms if vm.vm.policy is not None]
    yield "vm_replica_lag_seconds", "How far the replica is behind.", [
        (_of(vm), int(vm.replica.lag.total_seconds())) for vm in vms if vm.replica is not None and vm.replica.lag is not None]
    yield "vm_problems", "Number of problems.", [(_of(vm), len(vm.problems)) for vm in vms]
    yield "host_findings", "Number of things to be done at the host itself.", [
        ({"host": host.name}, len(findings(host))) for host in hosts if host.error_code is None]
    yield "host_shadow_copies", "Shadow copies by owner.", [
        ({"host": host.name, "owner": owner}, count) for host in hosts for owner, count in (host.shadow_copies or {}).items()]
    yield "destination_free_bytes", "Free bytes of a destination, as the host saw them.", list({
        (host.name, one.path): ({"host": host.name, "path": one.path}, one.free)
        for host in hosts for one in host.destinations if one.free is not None}.values())


def _stamp(moment: datetime) -> int:
    return int(moment.timestamp())
