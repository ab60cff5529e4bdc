# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Export, drill and report of the demo: what each check finds wrong."""
from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from demo import checks, playbook, summary
from demo.guests import Position, Witness
from demo.playbook import PlaybookRun
from demo.proofs import CopyProof
from demo.restored import Around, prove_export
from demo.site import EXPORT_HOST, EXPORT_VM, plan
from demo.summary import Requests
from simulator.disks.copying import copy_at_once
from simulator.disks.layout import MIB
from simulator.disks.vhdx import create_dynamic

PLANS = plan(datetime(2026, 3, 1, 22, tzinfo=UTC))
RUN = Path("HV03", "crm01_91F309F6", "20260301T220000Z_one")
ID = "91F309F6-4168-5161-860F-3DC2079BD569"
NOTHING_RUN = PlaybookRun(0, 1.0, {}, {})


class Export:
    """A guest that held its writes, and the export of its disk with a manifest."""

    def __init__(self, folder: Path) -> None:
        self.base = folder / "exports"
        (self.base / RUN).mkdir(parents=True)
        self.live, self.disk = folder / "crm01.vhdx", self.base / RUN / "crm01.vhdx"
        create_dynamic(self.live, 64 * MIB)
        self.guest = Witness(self.live, 7)
        self.guest.write_some(90)
        self.guest.step()

    def write(self, parent: str | None = None) -> None:
        copy_at_once(self.live, self.disk)
        data = {"vm": {"id": ID, "name": EXPORT_VM}, "method": "production_checkpoint", "consistency": {"achieved": "application"},
                "files": [{"path": "crm01.vhdx", "size": self.disk.stat().st_size}],
                "disks": [{"path": "crm01.vhdx", "source": "D:\\VMs\\crm01\\crm01.vhdx", "parent": parent}]}
        (self.base / RUN / "manifest.json").write_text(json.dumps(data))

    def prove(self) -> CopyProof:
        return prove_export(RUN, self.base, lambda machine_id: self.guest.held if machine_id == ID else [])


@pytest.fixture()
def export(tmp_path: Path):
    made = Export(tmp_path)
    yield made
    made.guest.close()


def ran(code: int = 2, *, failed: bool = False, changed: bool = True, folder: str = "one") -> PlaybookRun:
    entry = {"vm": {"name": EXPORT_VM}, "failed": failed, "changed": changed, "export": {"folder": folder}}
    return replace(NOTHING_RUN, code=code, exports={EXPORT_HOST: {"results": [entry]}})


def test_an_export_of_a_guest_that_held_its_writes_is_proved(export: Export) -> None:
    export.guest.freeze()
    export.write()
    export.guest.thaw()
    export.guest.write_some(5)
    proof = export.prove()
    assert (proof.problems, [(disk.guest, disk.found.quiesced) for disk in proof.disks]) == ((), [(Position(91, None), True)])
    assert checks.exported(ran(), [proof], 2) == []
    assert summary.export_lines(proof)[0] == "HV03  crm01  (application, production_checkpoint)"
    assert summary.export_lines(proof)[-1].endswith("to 91 are there, none after, none torn; guest at 91, quiesced")


def test_an_export_that_is_not_of_that_instant_is_not_proved(export: Export) -> None:
    export.guest.freeze()
    export.guest.thaw()
    export.guest.write_some(2)
    export.write("base.vhdx")
    assert export.prove().problems == (
        "crm01.vhdx needs another file", "crm01.vhdx does not end at write 91", "crm01.vhdx is not of a guest that held its writes")


def test_an_export_without_a_guest_that_held_its_writes_is_not_proved(export: Export) -> None:
    export.write()
    proof = export.prove()
    assert (proof.problems, proof.disks) == (("the guest never held its writes",), ())
    crash = replace(proof, copy=replace(proof.copy, level="crash"), problems=())
    assert checks.exported(ran(0, failed=True), [crash], 2) == [
        "the run with the export ended with 0, not 2", "HV03: hyperv_export says of 'crm01': ['no message']",
        "HV03: there are the exports [('crm01', 'production_checkpoint', 'crash')]", "HV03: 'crm01': no disk was proved"]


def test_the_last_run_exports_nothing() -> None:
    assert checks.same_exports(ran(), ran(changed=False)) == []
    assert checks.same_exports(ran(), ran(folder="two")) == [
        "HV03: the last run exported something", "the last run tells of other exports than those that were made"]


def drilled(code: int = 0, **changes: Any) -> PlaybookRun:
    drill = {"vm_name": EXPORT_VM, "outcome": "passed", "recovery_seconds": 12.34, "left": [], **changes}
    return replace(NOTHING_RUN, code=code, restores={EXPORT_HOST: {"results": [{"drill": drill}]}})


def test_a_drill_has_to_pass_and_leave_only_evidence() -> None:
    endings = [".html", ".json", ".xml"]
    assert checks.drill(drilled(), [], endings, endings) == []
    left = Around(("crm01 (drill)",), (), ("HV03\\x",)).text()
    assert checks.drill(drilled(2, outcome="failed", recovery_seconds=None), left, endings, []) == [
        "the drill ended with 2, not 0", "HV03: the drills are [('crm01', 'failed', [])]", "HV03: a drill measured no recovery",
        "HV03: after the drill the machine 'crm01 (drill)' is left", "HV03: after the drill the file 'HV03\\\\x' is left",
        "HV03: the evidence at the destination is []"]
    assert checks.drill(NOTHING_RUN, [], endings, endings) == ["HV03: the drills are []"]


def test_the_lines_of_a_drill() -> None:
    assert summary.drill_lines(drilled().restores[EXPORT_HOST], [Path("a.json"), Path("a.html")], []) == [
        "crm01: passed, heartbeat 12.3 s after the restore began.", "Left on the host: no machine, no checkpoint, no file of the drill.",
        "Evidence: a.html, .json"]
    assert summary.drill_lines({"results": [{"drill": {"vm_name": "\x1b", "outcome": "failed", "recovery_seconds": None}}]}, [], ["x"]) == [
        "\\x1b: failed, never back.", "Left on the host: x", "Evidence: NONE"]


def told() -> dict[str, Any]:
    """The report as it must be."""
    vms = []
    for one in PLANS:
        for vm in one.spec.vms:
            good = vm.name in one.copied or vm.name == EXPORT_VM
            vms.append({"host": one.spec.name.lower(), "name": vm.name, "status": "ok" if good else "unprotected",
                        "last_copy": {} if good else None, "problems": [] if good else [{"code": "unprotected"}]})
    return {"vms": vms}


def test_the_report_must_be_right_about_every_machine() -> None:
    asked = {one.spec.name: Requests(9, 0) for one in PLANS}
    data = told()
    assert checks.report(PLANS, NOTHING_RUN, data, True, asked) == []
    assert summary.report_lines(data, Path("page.html")) == [
        "Protected: 9 VMs. Without a copy: 2", "  hv01 scratch01 (unprotected)", "  hv03 erp01 (unprotected)",
        "Open it in a browser: page.html"]
    data["vms"][0]["last_copy"] = None
    del data["vms"][1]
    assert checks.report(PLANS, replace(NOTHING_RUN, code=2), data, False, {**asked, "HV02": Requests(9, 1)}) == [
        "the report ended with 2, not 0", "the report has no page", "HV01: the report is wrong about 'sql01'",
        "HV01: the report is wrong about 'web01'", "HV02: the report sent 9 requests, 1 of them writing"]


def test_a_task_that_was_skipped_has_no_result(tmp_path: Path) -> None:
    action = "agentless.hyperv.hyperv_vm_info"
    lines = [{"status": "ok", "host": "hv01", "action": action, "result": {"vms": [1]}},
             {"status": "skipped", "host": "hv01", "action": action, "result": {}}]
    record = tmp_path / "results.jsonl"
    record.write_text("\n".join(map(json.dumps, lines)))
    assert playbook.read_record(record)[action] == {"HV01": {"vms": [1]}}
