# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the demo prints, as lines of text: tables of facts and the summary. Nothing here asks anybody anything."""
from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from demo.left import KINDS, Left
from demo.live_copy import TRIES, LiveCopy
from demo.proofs import CopyProof, DiskProof
from demo.site import LIVE_HOST, LIVE_VM, HostPlan

WIDTH = 118
"""Columns of the running text."""


@dataclass(frozen=True)
class Requests:
    """What one run asked of a host."""

    total: int
    writing: int

    def text(self) -> str:
        """For the table."""
        return f"{self.total}, {self.writing} writing"


@dataclass(frozen=True)
class HostOutcome:
    """One host of the summary."""

    name: str
    os_version: str
    locale: str
    machines: int
    first: Requests
    last: Requests
    left: Left


@dataclass(frozen=True)
class Refusal:
    """A machine that was not copied, in the words of the module."""

    host: str
    name: str
    error_code: str
    message: str


@dataclass(frozen=True)
class Outcome:
    """Everything the demo found out. ``problems`` empty: all of it is as it must be."""

    hosts: Sequence[HostOutcome]
    proofs: Sequence[CopyProof]
    refusals: Sequence[Refusal]
    live: LiveCopy | None
    seconds: float
    problems: Sequence[str] = field(default=())


def printable(text: str) -> str:
    """Text of a host without anything that a terminal would obey: such characters are shown as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def number(count: int, noun: str) -> str:
    """``1 disk``, ``2 disks``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def table(rows: Sequence[Sequence[str]], indent: str = "") -> list[str]:
    """Lines with aligned columns; the last column is as long as it is."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))] if rows else []
    return [(indent + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))).rstrip() for row in rows]


def release(os_version: str) -> str:
    """The name of a Windows Server release."""
    return {"2012R2": "2012 R2"}.get(os_version, os_version)


def fleet_table(plans: Sequence[HostPlan], urls: Mapping[str, str]) -> list[str]:
    """One line for each host before anything is done."""
    rows = [["HOST", "WINDOWS SERVER", "LANGUAGE", "ADDRESS", "VMS", "RUNNING", "SHADOW COPIES OF ANOTHER PRODUCT"]]
    rows += [[plan.spec.name, release(plan.spec.os_version), plan.spec.locale, urls[plan.spec.name], str(len(plan.spec.vms)),
              str(sum(1 for vm in plan.spec.vms if vm.state == "running")), str(plan.foreign)] for plan in plans]
    return table(rows)


def left_table(left: Mapping[str, Left]) -> list[str]:
    """One line for each host: how much of each kind is ours, and what is left of the others."""
    rows = [["HOST", *(kind.upper() for kind in KINDS), "SHADOW COPIES OF ANOTHER PRODUCT"]]
    rows += [[host, *(str(found.ours.get(kind, 0)) for kind in KINDS), f"{found.foreign} of {found.foreign_before}"]
             for host, found in sorted(left.items())]
    return table(rows)


def exit_lines(code: int, expected: int) -> list[str]:
    """What the exit code of the playbook means here."""
    if code != expected:
        return [f"ansible-playbook ended with {code}; {expected} was expected."]
    if code == 0:
        return ["ansible-playbook ended with 0."]
    return [f"ansible-playbook ended with {code}, as it must: one VM of the inventory cannot be copied this way, and the run",
            "says so at its end, when all the others are safe."]


def facts_table(facts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """One line for each machine, out of the results of hyperv_vm_info by host."""
    rows = [["HOST", "VM", "STATE", "GUEST", "DISKS", "CHECKPOINTS", "A VSS COPY WOULD BE"]]
    for host in sorted(facts):
        for vm in facts[host].get("vms", []):
            rows.append([host, printable(vm["name"]), vm["state"], _guest(vm), str(len(vm["disks"])), str(len(vm["checkpoints"])),
                         _verdict(vm)])
    return table(rows)


def _guest(vm: Mapping[str, Any]) -> str:
    guest = (vm.get("integration") or {}).get("guest") or {}
    return printable(guest.get("os_name") or "-")


def _verdict(vm: Mapping[str, Any]) -> str:
    found = next(entry for entry in vm["readiness"] if entry["method"] == "vss_copy")
    if found["achievable"] is None:
        blocker = next(reason["text"] for reason in found["reasons"] if reason["kind"] == "blocker")
        return f"not possible: {printable(blocker.split('. ')[0].rstrip('.'))}"
    return "a complete image (it is off)" if found["achievable"] == "image" else f"{found['achievable']}-consistent"


def copy_lines(proof: CopyProof) -> list[str]:
    """Where each file of a copy comes from and where it is."""
    copy = proof.copy
    files = [[f"    {printable(file.source)}", "->", printable(file.path[len(copy.folder) + 1:]), _bytes(file.size)] for file in copy.files]
    lines = [f"{copy.host}  {printable(copy.name)}", f"  on the host  {copy.folder}", f"  here         {copy.real}",
             f"  out of       shadow copy {copy.origin}", *table(files)]
    if copy.problems:
        return [*lines, *(f"    WRONG: {printable(problem)}" for problem in copy.problems)]
    return [*lines, f"    manifest.json: {number(len(copy.files), 'file')}, there with these sizes, and no other"]


def export_lines(proof: CopyProof) -> list[str]:
    """An export, and what the reader finds in its disks."""
    copy = proof.copy
    disks = table([[_disk_name(disk), disk_verdict(disk)] for disk in proof.disks], "    ")
    return [f"{copy.host}  {printable(copy.name)}  ({copy.level}, {copy.origin})", f"  on the host  {copy.folder}",
            f"  here         {copy.real}", *disks, *(f"    WRONG: {printable(problem)}" for problem in copy.problems)]


def drill_lines(drills: Mapping[str, Any], evidence: Sequence[Path], left: Sequence[str]) -> list[str]:
    """What became of the drills of a host, by the result of hyperv_restore; where the evidence is; what is left."""
    lines = []
    for drill in (result["drill"] for result in drills.get("results", []) if "drill" in result):
        back = "never back" if drill["recovery_seconds"] is None else f"heartbeat {drill['recovery_seconds']:.1f} s after the restore began"
        lines.append(f"{printable(drill['vm_name'])}: {drill['outcome']}, {back}.")
    lines.append("Left on the host: " + (printable("; ".join(left)) if left else "no machine, no checkpoint, no file of the drill."))
    files = sorted(evidence)
    return [*lines, f"Evidence: {', '.join([str(files[0]), *(path.suffix for path in files[1:])]) if files else 'NONE'}"]


def is_protected(vm: Mapping[str, Any]) -> bool:
    """Whether a machine of the report has a good copy that is young enough."""
    return vm["status"] in ("ok", "attention") and vm["last_copy"] is not None


def report_lines(data: Mapping[str, Any], page: Path) -> list[str]:
    """What the report counts, by its JSON, and where its page is."""
    good = sum(1 for vm in data["vms"] if is_protected(vm))
    bad = [f"  {vm['host']} {printable(vm['name'])} ({', '.join(problem['code'] for problem in vm['problems'])})"
           for vm in data["vms"] if not is_protected(vm)]
    return [f"Protected: {number(good, 'VM')}. Without a copy: {len(bad)}", *bad, f"Open it in a browser: {page}"]


def _bytes(count: int) -> str:
    return f"{count / (1 << 20):.1f} MiB"


def disk_verdict(disk: DiskProof) -> str:
    """What the reader says of a disk, beside what its guest knows."""
    found, guest = disk.found, disk.guest
    if not disk.good:
        return f"NOT PROVED: {found.summary()}; the guest was at write {guest.last}"
    rest = "quiesced" if found.quiesced else "at rest"
    where = f"guest at {guest.last}, " + (f"{guest.in_flight} half written" if guest.in_flight is not None else rest)
    return f"writes {found.first} to {found.last} are there, none after, none torn; {where}"


def live_lines(live: LiveCopy) -> list[str]:
    """What became of the copy without a shadow copy."""
    if live.found is None:
        return [f"robocopy ended with {live.exit_code}: nothing to judge"]
    verdict = "Mixed from different instants, as it must be" if live.torn else "WRONG: this should have been mixed"
    return [live.found.summary(), f"{verdict} (try {live.tries} of at most {TRIES}): {live.real}"]


def summary(outcome: Outcome) -> list[str]:
    """The last word of the demo."""
    parts = [_hosts(outcome), _copies(outcome), _others(outcome), _last(outcome)]
    lines = [line for part in parts if part for line in (*part, "")]
    return lines[:-1]


def _hosts(outcome: Outcome) -> list[str]:
    if not outcome.hosts:
        return []
    rows = [["HOST", "WINDOWS", "LANGUAGE", "VMS", "COPIES", "REFUSED", "REQUESTS", "LAST RUN", "LEFT ON THE HOST"]]
    for host in outcome.hosts:
        copied = sum(1 for proof in outcome.proofs if proof.copy.host == host.name)
        refused = sum(1 for refusal in outcome.refusals if refusal.host == host.name)
        rows.append([host.name, release(host.os_version), host.locale, str(host.machines), str(copied), str(refused),
                     host.first.text(), host.last.text(), host.left.text()])
    return table(rows)


def _copies(outcome: Outcome) -> list[str]:
    if not outcome.proofs:
        return []
    lines = ["Where the copies are, and what an independent reader finds in each disk:"]
    disks = iter(table([[_disk_name(disk), disk_verdict(disk)] for proof in outcome.proofs for disk in proof.disks], "      "))
    for proof in outcome.proofs:
        lines.append(f"{proof.copy.host}  {printable(proof.copy.name)}  ({proof.copy.level})  {proof.copy.real}")
        lines += [next(disks) for _disk in proof.disks]
    return lines


def _disk_name(disk: DiskProof) -> str:
    name = shortened(printable(disk.file.path.rpartition("\\")[2]))
    place = f" ({disk.found.disk + 1} of {disk.found.disks})" if disk.found.disks > 1 else ""
    return f"{name}{place}" + (f" on {number(disk.parents, 'parent')}" if disk.parents else "")


def shortened(name: str, longest: int = 24) -> str:
    """A long name without its middle."""
    return name if len(name) <= longest else f"{name[:longest - 9]}...{name[-6:]}"


def _others(outcome: Outcome) -> list[str]:
    lines = [f"Refused: {entry.host} {printable(entry.name)} ({entry.error_code}): {printable(entry.message)}"
             for entry in outcome.refusals]
    if outcome.live is not None:
        lines.append(f"Without a shadow copy: {LIVE_HOST} {LIVE_VM}: {live_lines(outcome.live)[0]}")
    return [part for line in lines for part in textwrap.wrap(line, WIDTH, subsequent_indent="      ", break_long_words=False)]


def _last(outcome: Outcome) -> list[str]:
    disks = sum(len(proof.disks) for proof in outcome.proofs)
    if outcome.problems:
        return [f"FAILED after {outcome.seconds:.1f} s:", *(f"  {printable(problem)}" for problem in outcome.problems)]
    return [f"PASSED in {outcome.seconds:.1f} s. Copies and exports: {len(outcome.proofs)}, with {number(disks, 'disk')}, all proved. "
            f"Refused: {len(outcome.refusals)}.",
            "A run was killed in the middle; after the clean-up and the next run nothing of ours is left,",
            "and nothing of others is missing. An export was restored, started, measured and removed again."]
