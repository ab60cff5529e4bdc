# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the demo says, and what it finds wrong."""
from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from demo import checks, summary
from demo.guests import Position
from demo.left import KINDS, SHADOWS, Left
from demo.live_copy import LiveCopy
from demo.playbook import PlaybookRun
from demo.proofs import CopiedFile, Copy, CopyProof, DiskProof
from demo.show import Brief
from demo.site import HOSTILE, plan
from demo.summary import HostOutcome, Outcome, Refusal, Requests
from simulator.disks.proof import Proof, Torn

PLANS = plan(datetime(2026, 3, 1, 22, tzinfo=UTC))
REAL = Path(".demo/HV01/E/Backup/HV01/web01_51B5071B/run")
FILE = CopiedFile("D:\\VMs\\web01\\web01.vhdx", "E:\\Backup\\HV01\\web01_51B5071B\\run\\disks\\web01.vhdx", REAL / "disks" / "web01.vhdx",
                  9437184, 0, 0)
COPY = Copy("HV01", "51B5071B-2229-5310-B8B0-580E42BEAFF4", "web01", "E:\\Backup\\HV01\\web01_51B5071B\\run", REAL, "{ID}", "crash",
            (FILE,))
FOUND = Proof("web01.vhdx", guest="g", first=38, last=100, in_flight=101, visible=frozenset(range(38, 101)))
PROOF = CopyProof(COPY, (DiskProof(FILE, 0, FOUND, Position(100, 101)),), ())
TORN = Proof("web01.vhdx", guest="g", first=38, last=100, torn=(Torn(3, 99, (99, 98)),), missing=(97, 98))
LIVE = LiveCopy(1, 1, "E:\\Live\\web01-1\\web01.vhdx", Path(".demo/HV01/E/Live/web01-1/web01.vhdx"), TORN)
HOST = HostOutcome("HV01", "2012R2", "en-US", 4, Requests(200, 23), Requests(50, 0), Left(2, 2))
NOTHING = Left(2, 2, dict.fromkeys(KINDS, 0))
INTERRUPTED = Left(2, 2, {**NOTHING.ours, SHADOWS: 1, "links": 1, "incomplete copies": 2})
REFUSAL = Refusal("HV01", "erp01", "several_volumes", "The disks lie on several volumes.")


def entry(name: str, *, failed: bool = False, changed: bool = True, error_code: str | None = None) -> dict[str, object]:
    return {"vm": {"name": name}, "failed": failed, "changed": changed, "leftovers": [], "manifest": {"folder": name},
            **({"error_code": error_code, "msg": "why"} if error_code else {})}


def run(code: int = 2, *, changed: bool = True) -> PlaybookRun:
    """A run as it must be."""
    facts = {one.spec.name: {"vms": [{"name": vm.name} for vm in one.spec.vms]} for one in PLANS}
    copies = {one.spec.name: {"changed": changed, "results": [
        *(entry(name, changed=changed) for name in one.copied),
        *(entry(name, failed=True, changed=False, error_code=code) for name, code in one.refused.items())]} for one in PLANS}
    return PlaybookRun(code, 5.0, facts, copies)


@pytest.mark.parametrize(("text", "shown"), [
    ("web01", "web01"), ("\x1b[31mred", "\\x1b[31mred"), ("a\u202eb\nc", "a\\u202eb\\nc"), ("名前 🖥", "名前 🖥"),
    (HOSTILE, "it's 50% \"off\" & <{{ 7 * 7 }}> \\u202egnp.exe"),
])
def test_no_name_reaches_the_terminal_as_it_is(text: str, shown: str) -> None:
    assert summary.printable(text) == shown


def test_tables_are_aligned() -> None:
    assert summary.table([["A", "LONGER", ""], ["bbb", "c", "d"]], "  ") == ["  A    LONGER", "  bbb  c       d"]
    assert summary.table([]) == []
    assert summary.shortened("build01_1E15C348-54A8-5509.avhdx") == "build01_1E15C34....avhdx"
    assert summary.shortened("web01.vhdx") == "web01.vhdx"


def test_the_facts_say_what_a_copy_would_be_and_why_not() -> None:
    def vm(name: str, level: str | None, *reasons: tuple[str, str]) -> dict[str, object]:
        readiness = [{"method": "export_crash", "achievable": "image", "reasons": []}, {
            "method": "vss_copy", "achievable": level, "reasons": [{"kind": kind, "text": text} for kind, text in reasons]}]
        return {"name": name, "state": "off", "disks": [{}], "checkpoints": [], "integration": None, "readiness": readiness}

    vms = [vm("web01", "crash", ("unknown", "Who knows.")), vm("old", "image"),
           vm("r1", None, ("note", "Beside."), ("blocker", "This is a replica. More."))]
    assert summary.facts_table({"HV01": {"vms": vms}}) == [
        "HOST  VM     STATE  GUEST  DISKS  CHECKPOINTS  A VSS COPY WOULD BE",
        "HV01  web01  off    -      1      0            crash-consistent",
        "HV01  old    off    -      1      0            a complete image (it is off)",
        "HV01  r1     off    -      1      0            not possible: This is a replica"]


def test_the_summary_of_a_demo_that_passed() -> None:
    assert summary.summary(Outcome([HOST], [PROOF], [REFUSAL], LIVE, 12.34)) == [
        "HOST  WINDOWS  LANGUAGE  VMS  COPIES  REFUSED  REQUESTS         LAST RUN       LEFT ON THE HOST",
        "HV01  2012 R2  en-US     4    1       1        200, 23 writing  50, 0 writing  0 of ours, 2 of 2 foreign",
        "",
        "Where the copies are, and what an independent reader finds in each disk:",
        f"HV01  web01  (crash)  {REAL}",
        "      web01.vhdx  writes 38 to 100 are there, none after, none torn; guest at 100, 101 half written",
        "",
        "Refused: HV01 erp01 (several_volumes): The disks lie on several volumes.",
        "Without a shadow copy: HV01 web01: web01.vhdx: NOT consistent at write 100: 1 torn (99), 2 missing (97, 98)",
        "",
        "PASSED in 12.3 s. Copies and exports: 1, with 1 disk, all proved. Refused: 1.",
        "A run was killed in the middle; after the clean-up and the next run nothing of ours is left,",
        "and nothing of others is missing. An export was restored, started, measured and removed again."]


def test_the_summary_of_a_demo_that_failed_says_why() -> None:
    late = DiskProof(FILE, 2, FOUND, Position(101, None))
    lines = summary.summary(Outcome([], [CopyProof(COPY, (late,), ())], [], None, 3.0, ["HV01: \x1b"]))
    assert lines[2:] == [
        "      web01.vhdx on 2 parents  NOT PROVED: web01.vhdx: consistent: writes 38 to 100 are there, none after; "
        "write 101 was under way; the guest was at write 101",
        "", "FAILED after 3.0 s:", "  HV01: \\x1b"]


def test_the_lines_of_a_copy() -> None:
    assert summary.copy_lines(PROOF) == [
        "HV01  web01", "  on the host  E:\\Backup\\HV01\\web01_51B5071B\\run", f"  here         {REAL}", "  out of       shadow copy {ID}",
        "    D:\\VMs\\web01\\web01.vhdx  ->  disks\\web01.vhdx  9.0 MiB", "    manifest.json: 1 file, there with these sizes, and no other"]
    assert summary.copy_lines(CopyProof(replace(COPY, problems=("gone",)), (), ()))[-1] == "    WRONG: gone"


def test_a_right_course_has_no_problems() -> None:
    first, last = run(), run(changed=False)
    asked = {one.spec.name: Requests(50, 0) for one in PLANS}
    assert checks.first_run(PLANS, first) == []
    assert checks.idle_run(PLANS, first, last, asked) == []
    assert checks.next_run(PLANS, first, {one.spec.name: () for one in PLANS}) == []
    proofs = [replace(PROOF, copy=replace(COPY, host=one.spec.name, name=name)) for one in PLANS for name in one.copied]
    assert checks.copies(PLANS, proofs) == []
    assert checks.live(LIVE) == []
    assert checks.nothing_left({"HV01": NOTHING}, "now") == []
    assert checks.same_copies([PROOF], [PROOF]) == []


def test_a_first_run_that_went_wrong() -> None:
    wrong = run(0)
    wrong.facts["HV01"]["vms"].pop()
    results = wrong.copies["HV03"]["results"]
    results[0].update(failed=True, error_code="copy_failed", msg="full")
    results[1].update(leftovers=[{"id": "link"}])
    results[2].update(failed=False, error_code=None)
    del wrong.copies["HV01"]["results"][0]
    wrong.copies["HV01"]["results"].append(entry("stranger"))
    assert checks.first_run(PLANS, wrong) == [
        "the first run of the playbook ended with 0, not 2",
        "HV01: hyperv_vm_info told of ['old-app', 'sql01', 'web01']",
        "HV01: hyperv_vss_copy says nothing of 'sql01'",
        "HV01: hyperv_vss_copy tells of 'stranger', which was not asked for",
        "HV03: 'file01': (failed, changed, error code) is (True, True, 'copy_failed'), not (False, True, None): full",
        "HV03: 'web02' left ['link']",
        "HV03: 'erp01': (failed, changed, error code) is (False, False, None), not (True, False, 'several_volumes'): why"]


def test_a_last_run_that_changed_something() -> None:
    first, last = run(), run(changed=False)
    last.copies["HV01"]["changed"] = True
    last.copies["HV02"]["results"][0].update(manifest={"folder": "another"})
    asked = {"HV01": Requests(50, 1), "HV02": Requests(50, 0), "HV03": Requests(0, 0)}
    assert checks.idle_run(PLANS, first, last, asked) == [
        "HV01: the last run says that it changed something",
        "HV01: the last run sent 50 requests, 1 of them writing",
        "HV02: 'linux01': the last run found another copy than the one that was made",
        "HV03: the last run sent 0 requests, 0 of them writing"]


def test_a_next_run_that_copied_what_was_there_or_left_out_what_was_not() -> None:
    present = {"HV01": ["web01"], "HV02": [], "HV03": []}
    told = run()
    told.copies["HV02"]["results"][1].update(changed=False)
    assert checks.next_run(PLANS, told, present) == [
        "HV01: 'web01': (failed, changed, error code) is (False, True, None), not (False, False, None): no message",
        "HV02: 'build01': (failed, changed, error code) is (False, False, None), not (False, True, None): no message"]


def cleanup(code: int = 0, **told: object) -> PlaybookRun:
    return PlaybookRun(code, 1.0, {}, {}, {"HV01": {"counts": {"ours": 1, "suspect": 0, "foreign": 2}, "found": [
        {"id": "shadow", "status": "removable"}, {"id": "intent", "status": "removable"}, {"id": "strange", "status": "damaged"}], **told}})


def test_a_killed_run_is_cleaned_up() -> None:
    left, asked = {"HV01": INTERRUPTED}, {"HV01": Requests(9, 0)}
    removed = [{"id": "intent"}, {"id": "shadow"}]
    assert checks.killed_run(-9, left) == []
    assert checks.audit(cleanup(), left, asked) == []
    assert checks.clean_up(cleanup(), cleanup(removed=removed, leftovers=[])) == []

    assert checks.killed_run(2, {"HV01": NOTHING, "HV02": replace(INTERRUPTED, foreign=1)}) == [
        "the run that was to be killed ended with 2 before all hosts were copying", "HV01: the killed run left no shadow copy",
        "HV02: after the kill 1 of 2 shadow copies of another product are left"]
    assert checks.audit(cleanup(2), {"HV01": NOTHING}, {"HV01": Requests(9, 1)}) == [
        "the audit ended with 2, not 0",
        "HV01: the audit counts {'ours': 1, 'suspect': 0, 'foreign': 2}, there are {'ours': 0, 'suspect': 0, 'foreign': 2}",
        "HV01: the audit sent 9 requests, 1 of them writing"]
    assert checks.clean_up(cleanup(), cleanup(2, removed=removed[:1], leftovers=[{"id": "shadow"}])) == [
        "the clean-up ended with 2, not 0", "HV01: the clean-up removed ['intent'], the audit said ['intent', 'shadow']",
        "HV01: shadow could not be removed"]
    assert checks.clean_up(cleanup(found=[]), cleanup(removed=[])) == ["HV01: the clean-up removed [], the audit said []"]


def test_the_table_of_what_is_left() -> None:
    assert summary.left_table({"HV01": INTERRUPTED}) == [
        "HOST  SHADOW COPIES  LINKS  INTENTS  LEASES  JOB FOLDERS  TASKS  INCOMPLETE COPIES  SHADOW COPIES OF ANOTHER PRODUCT",
        "HV01  1              1      0        0       0            0      2                  2 of 2"]
    assert (INTERRUPTED.count, INTERRUPTED.text()) == (4, "4 of ours, 2 of 2 foreign")


def test_only_tasks_that_say_something_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    brief = Brief()
    for line in ("$ ansible-playbook x", "", "PLAY [p] ***", "TASK [a] ***", "ok: [hv01]", "skipping: [hv02]", "", "TASK [b] ***",
                 "[WARNING]: The clock.", "ok: [hv01] => (item=default)", "TASK [c] ***", 'ok: [hv01] => {"msg": 1}', "changed: [hv02]"):
        brief(line)
    assert capsys.readouterr().out.splitlines() == [
        "  | $ ansible-playbook x", "  | TASK [c] ***", '  | ok: [hv01] => {"msg": 1}', "  | changed: [hv02]"]


def test_copies_that_are_missing_or_not_proved() -> None:
    assert checks.copies(PLANS[:1], [replace(PROOF, disks=(), problems=("late",))]) == [
        "HV01: there are copies of ['web01']", "HV01: 'web01': late", "HV01: 'web01': no disk was proved"]
    assert checks.same_copies([PROOF], []) == ["the copies are not the same after the last run"]


def test_a_live_copy_that_proves_itself_or_failed_is_a_problem() -> None:
    assert checks.live(replace(LIVE, tries=3, found=FOUND)) == [
        "the copy without a shadow copy is not torn after 3 tries: web01.vhdx: consistent: writes 38 to 100 are there, none after; "
        "write 101 was under way"]
    assert checks.live(replace(LIVE, exit_code=8, found=None)) == ["robocopy of the live disk ended with 8"]
    assert not replace(LIVE, found=Proof("web01.vhdx", "no VHDX")).torn


def test_what_is_left_behind_is_told() -> None:
    assert checks.nothing_left({"HV01": replace(INTERRUPTED, foreign=1)}, "at the end") == [
        "HV01: at the end there are 1 shadow copies, 1 links, 2 incomplete copies of ours",
        "HV01: at the end 1 of 2 shadow copies of another product are left"]
