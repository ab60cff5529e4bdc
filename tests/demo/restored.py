# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The third part of the demo: a machine is exported with its guest quiesced, the export is restored for a drill, one page tells of all."""
from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, Any

from simulator.host import SimHost

from demo import checks, playbook, summary
from demo.guests import Position
from demo.playbook import BACKUP, DRILL, EVIDENCE, FOLDER, PAGE, REPORT, PlaybookRun
from demo.proofs import MANIFEST, CopiedFile, Copy, CopyProof, judge, problems_of
from demo.site import DRILLS, EXPORT_HOST, EXPORT_VM, EXPORTS, HostPlan

if TYPE_CHECKING:
    from demo.show import Demo

Say = Callable[[Sequence[str]], None]
Relay = Callable[[str], None]
BRISK = {"export_seconds": 1.0, "merge_delay_seconds": 0.5, "merge_seconds": 1.0, "boot_seconds": 3.0}
"""How fast the host is that exports and restores: small disks, and nobody wants to wait for a guest that boots."""


def make_brisk(host: SimHost) -> None:
    """Let a host be fast."""
    for name, seconds in BRISK.items():
        setattr(host.hyperv.knobs, name, seconds)
    host.hyperv.knobs.job_seconds = {kind: seconds / 4 for kind, seconds in host.hyperv.knobs.job_seconds.items()}


@dataclass(frozen=True)
class Around:
    """What the host has beside its own machines and finished exports: nothing of it should stay."""

    machines: tuple[str, ...] = ()
    checkpoints: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

    def text(self) -> list[str]:
        """As sentences."""
        told = {"the machine": self.machines, "the checkpoint": self.checkpoints, "the file": self.files}
        return [f"{what} {name!r} is left" for what, names in told.items() for name in names]


def look(host: SimHost, plan: HostPlan) -> Around:
    """Look at a host that stands still (``fleet.locked()``)."""
    known = {vm.name: {checkpoint.name for checkpoint in vm.checkpoints} for vm in plan.spec.vms}
    machines = [*host.hyperv.machines.values(), *host.hyperv.planned.values()]
    strange = tuple(sorted(machine.name for machine in machines if machine.name not in known))
    checkpoints = tuple(sorted(checkpoint.name for machine in machines for checkpoint in machine.checkpoints.values()
                               if checkpoint.name not in known.get(machine.name, ())))
    return Around(strange, checkpoints, tuple(_files(host, DRILLS)))


def _files(host: SimHost, folder: str) -> list[str]:
    """Everything below a folder of the host but the folders right in it, which are those of hosts and machines."""
    top = host.files.resolve(folder).real if host.files.exists(folder) else None
    return [] if top is None else sorted("\\".join(path.relative_to(top).parts) for path in top.rglob("*") if path.parent != top)


def prove_exports(demo: Demo) -> list[CopyProof]:
    """The finished exports of the host, judged against where the guest was when it held its writes."""
    base = FOLDER / EXPORT_HOST / EXPORTS[0] / Path(*PureWindowsPath(EXPORTS).parts[1:])
    with demo.fleet.locked():
        return [prove_export(folder.relative_to(base), base, demo.guests[EXPORT_HOST].held)
                for folder in sorted(path.parent for path in base.rglob(MANIFEST))]


def prove_export(relative: Path, base: Path, held: Callable[[str], Sequence[Position]]) -> CopyProof:
    """Judge the export in the folder ``relative`` of the destination, which is ``base`` here."""
    real, folder = base / relative, str(PureWindowsPath(EXPORTS, *relative.parts))
    data: Any = json.loads((real / MANIFEST).read_text(encoding="ascii"))
    sources = {disk["path"]: (number, disk) for number, disk in enumerate(data["disks"])}
    files = tuple(CopiedFile(sources.get(entry["path"], (0, {"source": ""}))[1]["source"], f"{folder}\\{entry['path']}",
                             real.joinpath(*PureWindowsPath(entry["path"]).parts), entry["size"],
                             sources.get(entry["path"], (-1, {}))[0], 0) for entry in data["files"])
    problems = problems_of(real, files) + [f"{disk['path']} needs another file" for _number, disk in sources.values() if disk["parent"]]
    copy = Copy(EXPORT_HOST, data["vm"]["id"], data["vm"]["name"], folder, real, data["method"], data["consistency"]["achieved"], files,
                tuple(problems))
    instants = held(copy.machine_id)
    if not instants:
        return CopyProof(copy, (), (*copy.problems, "the guest never held its writes"))
    proof = judge(replace(copy, files=tuple(file for file in files if file.disk >= 0)), instants[-1])
    loud = [f"{disk.found.name} is not of a guest that held its writes" for disk in proof.disks if not disk.found.quiesced]
    return CopyProof(copy, proof.disks, (*proof.problems, *loud))


def show(demo: Demo, heading: Callable[[str], None], say: Say, relay: Callable[[], Relay]) -> tuple[list[CopyProof], PlaybookRun]:
    """Export, prove, drill, look; the proved exports, and the run that made them."""
    plan = next(plan for plan in demo.plans if plan.spec.name == EXPORT_HOST)
    heading(f"9. One more VM in the inventory: {EXPORT_VM} is exported, out of a checkpoint for which its guest held its writes")
    playbook.write_inventory(demo.fleet, demo.plans, exports=True)
    made, _unused = demo.play(BACKUP, relay(), "--limit", EXPORT_HOST.lower())
    with demo.fleet.locked():
        for guests in demo.guests.values():  # nobody looks at what they write from here on
            guests.pause()
    exports = prove_exports(demo)
    lines = [line for proof in exports for line in summary.export_lines(proof)]
    say(["", *summary.exit_lines(made.code, checks.expected_exit([plan])), "", *lines])
    demo.problems += checks.exported(made, exports, checks.expected_exit([plan]))

    heading("10. Does it come back? playbooks/restore_drill.yml: another name, no network, started, measured, removed")
    drilled, _unused = demo.play(DRILL, relay(), "--limit", EXPORT_HOST.lower())
    with demo.fleet.locked():
        around = look(demo.fleet.hosts[EXPORT_HOST].host, plan)
        stored = [name for name in _files(demo.fleet.hosts[EXPORT_HOST].host, f"{EXPORTS}\\restore_drills") if "." in name]
    written = sorted(path for path in EVIDENCE.glob("*") if path.is_file()) if EVIDENCE.exists() else []
    say(["", *summary.drill_lines(drilled.restores.get(EXPORT_HOST, {}), written, around.text())])
    demo.problems += checks.drill(drilled, around.text(), [path.suffix for path in written], [Path(name).suffix for name in stored])
    demo.problems += checks.same_copies(exports, prove_exports(demo)) + checks.nothing_left(demo.left(), "after the drill")
    return exports, made


def report(demo: Demo, heading: Callable[[str], None], say: Say, relay: Callable[[], Relay]) -> None:
    """One page of the fleet, and what it must say of each machine; read, not believed."""
    heading("12. playbooks/report.yml: one page of the whole fleet")
    run, asked = demo.play(REPORT, relay())
    told = PAGE.with_suffix(".json")
    data = json.loads(told.read_text(encoding="ascii")) if told.exists() else {"vms": []}
    say(["", *summary.report_lines(data, PAGE)])
    demo.problems += checks.report(demo.plans, run, data, PAGE.exists(), asked)
