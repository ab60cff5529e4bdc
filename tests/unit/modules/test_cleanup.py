# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``hyperv_cleanup`` after runs whose controller was killed; foreign shadow copies survive everything."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from ansible.module_utils.common.arg_spec import ModuleArgumentSpecValidator
from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Deadline
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.endpoint import Lane
from ansible_collections.agentless.hyperv.plugins.modules import hyperv_cleanup, hyperv_shadow_copy, hyperv_vss_copy
from simulator.cim.model import Account
from simulator.hyperv.spec import VmSpec
from simulator.soap.rules import lost_after, lost_before
from simulator.spec import Quirks
from simulator.windows import acl
from simulator.windows.acl import Ace, Acl
from simulator.windows.spec import VolumeSpec
from support import in_process
from support.in_process import ADMINISTRATOR

Start = Callable[..., Any]
VOLUMES = (VolumeSpec("C:"), VolumeSpec("D:"), VolumeSpec("E:"))
STATE = "C:\\ProgramData\\agentless.hyperv"
COPIES = "E:\\Backup\\HV01"
HOUR = 3600
JOB = "/v:off"
"""Only the line that runs a job in the session holds this."""


class ControllerKilled(BaseException):
    """No handler of the collection may survive this."""


class Killer:
    """A lane that ends the controller at a message: the n-th, or the first one that holds all of the texts."""

    def __init__(self, lane: Lane, *, number: int = 0, texts: tuple[str, ...] = (), after: bool = False) -> None:
        self._lane, self._number, self._texts, self._after = lane, number, [text.encode() for text in texts], after
        self.sent, self._dead = 0, False

    def send(self, envelope: bytes, deadline: Deadline, *, repeatable: bool) -> bytes:
        if self._dead:
            raise ControllerKilled
        self.sent += 1
        self._dead = self.sent == self._number or (bool(self._texts) and all(text in envelope for text in self._texts))
        if self._dead and not self._after:
            raise ControllerKilled
        answer = self._lane.send(envelope, deadline, repeatable=repeatable)
        if self._dead:
            raise ControllerKilled
        return answer

    def close(self) -> None:
        self._lane.close()


def validated(module: Any, **params: Any) -> dict[str, Any]:
    checked = ModuleArgumentSpecValidator(module.ARGUMENT_SPEC, **module.RULES).validate(params)
    assert not checked.error_messages
    values: dict[str, Any] = checked.validated_parameters
    return values


def killed(runner: Any, module: Any, params: dict[str, Any], **when: Any) -> int:
    """Run until the controller is killed; how many messages were sent. 0: it was not."""
    lanes: list[Killer] = []

    def wrap(lane: Lane) -> Lane:
        lanes.append(Killer(lane, **when))
        return lanes[-1]

    ending = in_process.run(module.run, validated(module, **params), runner.fleet, runner.running, wrap=wrap)
    assert ending.defect is None, ending
    return lanes[0].sent if ending.killed is not None else 0


def copy_killed(runner: Any, *texts: str, after: bool = False) -> None:
    """``hyperv_vss_copy`` of sql01, killed while it copies, or at the message that holds all of the texts."""
    params = {"name": "sql01", "destination": "E:\\Backup", "run_id": "night-1", "run_as": "session", "timeout": 60}
    assert killed(runner, hyperv_vss_copy, params, texts=texts or (JOB,), after=after)


def clean(runner: Any, **params: Any) -> dict[str, Any]:
    result: dict[str, Any] = runner.run(hyperv_cleanup, **params)
    return result


def later(runner: Any, seconds: float) -> None:
    with runner.fleet.locked():
        runner.running.host.clock.advance(seconds)


def foreign(runner: Any, drive: str = "D:\\", **values: Any) -> str:
    with runner.fleet.locked():
        return str(runner.running.host.shadows.add_foreign(drive, **values).shadow_id)


def shadows(runner: Any) -> list[str]:
    with runner.fleet.locked():
        return [shadow.shadow_id for shadow in runner.running.host.shadows.copies]


def names(runner: Any, path: str) -> list[str]:
    with runner.fleet.locked():
        files = runner.running.host.files
        if not files.exists(path):
            return []
        return [entry.parts[-1] for entry in files.children(files.resolve(path))]


def of_ours(runner: Any) -> dict[str, list[str]]:
    """Everything of ours on the host but complete copies and shadow copies."""
    copies = [f"{machine}\\{folder}" for machine in names(runner, COPIES) for folder in names(runner, f"{COPIES}\\{machine}")]
    found = {
        "links": names(runner, STATE + "\\s"),
        "intents": names(runner, STATE + "\\intents"),
        "temporary": [name for name in names(runner, "C:\\Windows\\Temp") if "agentless" in name],
        "leases": names(runner, STATE + "\\leases"),
        "jobs": names(runner, STATE + "\\jobs"),
        "staged": [name for name in names(runner, "C:\\ProgramData") if name.startswith("agentless.hyperv.")],
        "incomplete": [copy for copy in copies if "manifest.json" not in names(runner, f"{COPIES}\\{copy}")],
    }
    return {kind: items for kind, items in found.items() if items}


def kinds(listed: list[dict[str, Any]]) -> list[str]:
    """What is no matter of the run alone: each killed run leaves a lease, and a job when it got that far (test_cleanup_runs.py)."""
    return sorted(item["kind"] for item in listed if item["kind"] not in ("lease", "job"))


@pytest.fixture
def host(start: Start) -> Any:
    return start(volumes=VOLUMES, vms=(VmSpec("sql01", folder="D:\\VMs\\sql01"), VmSpec("web01", folder="D:\\VMs\\web01")))


def test_a_clean_host_has_nothing_and_is_asked_little(start: Start) -> None:
    runner = start(volumes=VOLUMES, quirks=Quirks(split_batches=False), foreign_shadow_copies=("D:\\", "E:\\"))
    before = runner.running.host.counters.snapshot()
    for params in ({}, {"remove": True}, {"remove": True, "check": True}):
        result = clean(runner, **params)
        assert (result["changed"], result["found"], result["removed"], result["leftovers"]) == (False, [], [], [])
        assert result["counts"] == {"ours": 0, "suspect": 0, "foreign": 2}
    asked = runner.running.host.counters.since(before)
    assert (asked.writing, runner.running.host.changes) == (0, 0)
    assert asked.requests <= 3 * 11


def test_a_run_killed_while_it_copies_is_found_and_cleaned_up(host: Any) -> None:
    theirs = [foreign(host), foreign(host, context="ClientAccessible")]
    copy_killed(host, after=True)
    (ours,) = set(shadows(host)) - set(theirs)
    theirs.append(foreign(host, context="ClientAccessible"))  # of the same kind, in the same window
    for status, seconds in (("at_work", 1600), ("too_young", 7 * HOUR)):
        young = clean(host, remove=True)
        assert (young["changed"], {item["status"] for item in young["found"]}) == (False, {status})
        later(host, seconds)
    host.running.host.changes = 0
    audit = clean(host)
    assert (audit["changed"], audit["counts"], audit["removed"]) == (False, {"ours": 1, "suspect": 0, "foreign": 3}, [])
    assert {(item["kind"], item["status"], item["run_id"]) for item in audit["found"]} == {
        ("shadow_copy", "removable", "night-1"),
        ("intent", "removable", "night-1"),
        ("incomplete_copy", "removable", "night-1"),
        ("job", "removable", "night-1"),
        ("lease", "removable", "night-1"),
    }
    predicted = clean(host, remove=True, check=True)
    assert (predicted["changed"], predicted["removed"]) == (True, predicted["found"])
    assert [step["action"] for step in predicted["diff"]["after"]["steps"]] == [
        "remove_shadow_copy",
        "remove_job",
        "remove_incomplete_copy",
        "remove_intent",
        "remove_lease",
    ]
    assert host.running.host.changes == 0, "neither the audit nor check mode changed anything"
    done = clean(host, remove=True)
    assert (done["changed"], done["leftovers"], kinds(done["removed"])) == (True, [], kinds(predicted["removed"]))
    assert [item["id"] for item in done["removed"] if item["kind"] == "shadow_copy"] == [ours]
    assert (shadows(host), of_ours(host)) == (theirs, {})
    host.running.host.changes = 0
    again = clean(host, remove=True)
    assert (again["changed"], again["found"], host.running.host.changes) == (False, [], 0)


def test_complete_copies_stay(host: Any) -> None:
    """Of the same run: the first attempt was complete, the retry with the same run was killed."""
    params = {"name": "sql01", "destination": "E:\\Backup", "run_id": "night-1"}
    manifest = host.run(hyperv_vss_copy, **params)["manifest"]
    assert killed(host, hyperv_vss_copy, {"name": "web01", "destination": "E:\\Backup", "run_id": "night-1"}, texts=("rmdir", "AGH_LINK%"))
    later(host, 7 * HOUR)
    done = clean(host, remove=True)
    # the claim of the run and the intent of its copy; it was killed after the manifest, so the copy is complete
    assert kinds(done["removed"]) == ["intent", "intent", "shadow_copy"]
    assert of_ours(host) == {}
    assert len([name for machine in names(host, COPIES) for name in names(host, f"{COPIES}\\{machine}")]) == 2
    assert host.run(hyperv_vss_copy, **params)["manifest"] == manifest


def test_a_shadow_copy_that_was_not_linked_yet_is_ours_when_nothing_else_can_be_meant(host: Any) -> None:
    before, elsewhere = foreign(host, context="ClientAccessible"), foreign(host, "E:\\", context="ClientAccessible")
    copy_killed(host, "Win32_ShadowCopy/Create", after=True)
    with_writers = foreign(host)
    later(host, 7 * HOUR)
    audit = clean(host)
    (ours,) = set(shadows(host)) - {before, elsewhere, with_writers}
    assert {entry["id"]: entry["reason"] for entry in audit["shadow_copies"] if entry["owner"] == "ours"} == {ours: "announced"}
    assert clean(host, remove=True)["changed"] is True
    assert (shadows(host), of_ours(host)) == ([before, elsewhere, with_writers], {})


def test_a_foreign_one_of_the_same_kind_in_the_same_window_makes_both_suspects(host: Any) -> None:
    copy_killed(host, "Win32_ShadowCopy/Create", after=True)
    foreign(host, context="ClientAccessible")
    later(host, 7 * HOUR)
    both = shadows(host)
    result = clean(host, remove=True)
    assert (kinds(result["removed"]), result["counts"]) == ([], {"ours": 0, "suspect": 2, "foreign": 0})
    assert [item["status"] for item in result["found"] if item["kind"] == "intent"] == ["suspect"], "the intent stays as long as they do"
    assert shadows(host) == both
    assert sum(shadow in line for line in host.told.warnings for shadow in both) == 2
    host.run(hyperv_shadow_copy, state="absent", id=both[0])
    assert (clean(host, remove=True)["changed"], shadows(host), of_ours(host)) == (False, [both[1]], {})


def test_the_remains_of_a_removal_never_speak_for_a_foreign_copy(host: Any) -> None:
    """Killed after the deletion of its shadow copy and before the end of its intent; another product made one in the same window."""
    copy_killed(host, "transfer/Delete", "Win32_ShadowCopy", after=True)
    assert shadows(host) == []
    theirs = foreign(host, context="ClientAccessible")
    later(host, 7 * HOUR)
    assert kinds(clean(host, remove=True)["removed"]) == ["intent"]
    assert (shadows(host), of_ours(host)) == ([theirs], {})


def test_the_retry_of_an_interrupted_run_protects_its_folders(host: Any) -> None:
    copy_killed(host, after=True)
    later(host, 7 * HOUR)
    copy_killed(host, "mklink", after=True)
    result = clean(host, remove=True)
    assert (result["removed"], {item["status"] for item in result["found"]}) == ([], {"at_work"}), "also what the first try left"
    later(host, 1600)
    assert {item["status"] for item in clean(host, remove=True)["found"]} == {"too_young"}
    assert len(shadows(host)) == 2
    later(host, 7 * HOUR)
    assert clean(host, remove=True)["leftovers"] == []
    assert (shadows(host), of_ours(host)) == ([], {})


def test_shadow_copies_that_are_kept_are_ours_too(host: Any) -> None:
    host.run(hyperv_shadow_copy, volume="D:\\", run_id="night-1")
    assert clean(host, remove=True)["changed"] is False
    later(host, 7 * HOUR)
    assert clean(host, remove=True, older_than="8h")["changed"] is False
    left = clean(host, remove=True, include_kept=False)
    assert (left["changed"], {(item["kind"], item["status"]) for item in left["found"]}) == (
        False, {("shadow_copy", "kept"), ("intent", "kept")})
    assert kinds(clean(host, remove=True)["removed"]) == ["intent", "shadow_copy"]
    assert (shadows(host), of_ours(host)) == ([], {})


def test_links_that_lead_nowhere_go(host: Any) -> None:
    host.run(hyperv_shadow_copy, volume="D:\\")
    with host.fleet.locked():
        service = host.running.host.shadows
        service.remove(service.copies[0])
    later(host, 7 * HOUR)
    assert kinds(clean(host, remove=True)["removed"]) == ["intent", "link"]
    assert of_ours(host) == {}


def incomplete(host: Any) -> str:
    """The folder of an interrupted copy, old enough."""
    copy_killed(host, after=True)
    later(host, 7 * HOUR)
    (machine,) = names(host, COPIES)
    (folder,) = names(host, f"{COPIES}\\{machine}")
    return f"{COPIES}\\{machine}\\{folder}"


@pytest.mark.parametrize("what", ["file", "folder", "file below", "link", "link above"])
def test_a_folder_that_holds_something_else_stays(host: Any, what: str) -> None:
    path = incomplete(host)
    with host.fleet.locked():
        files = host.running.host.files
        files.create_directory("C:\\elsewhere")
        files.write_file("C:\\elsewhere\\precious.txt", b"x")
        if what == "file":
            files.write_file(path + "\\notes.txt", b"x")
        elif what == "folder":
            files.create_directory(path + "\\other")
        elif what == "file below":
            files.create_directory(path + "\\disks\\deep")
            files.write_file(path + "\\disks\\deep\\notes.txt", b"x")
        elif what == "link":
            files.make_link(path + "\\disks\\x", "C:\\elsewhere", "junction")
        else:
            above = path.rpartition("\\")[0]
            files.rename(files.resolve(above), files.resolve(COPIES + "\\moved"))
            files.make_link(above, COPIES + "\\moved", "junction")
    result = clean(host, remove=True)
    assert kinds(result["removed"]) == ["shadow_copy"]
    stays = {item["kind"]: item["status"] for item in result["found"]}
    assert (stays["incomplete_copy"], stays["intent"]) == ("foreign_content", "foreign_content")
    assert any(path in line for line in host.told.warnings)
    assert names(host, "C:\\elsewhere") == ["precious.txt"]
    assert names(host, path)


def test_a_destination_that_is_not_there_keeps_its_intent(host: Any) -> None:
    incomplete(host)
    with host.fleet.locked():
        files = host.running.host.files
        backup = next(volume for volume in files.volumes if volume.mount_path == "E:\\")
        files.volumes.remove(backup)
    result = clean(host, remove=True)
    stays = {item["kind"]: item["status"] for item in result["found"] if item["kind"] not in ("lease", "job")}
    assert stays == {"shadow_copy": "removable", "intent": "destination_missing"}
    assert (kinds(result["removed"]), len(of_ours(host)["intents"])) == (["shadow_copy"], 1)
    with host.fleet.locked():
        files.volumes.append(backup)
    assert kinds(clean(host, remove=True)["removed"]) == ["incomplete_copy", "intent"]
    assert of_ours(host) == {}


@pytest.mark.parametrize("text", ["", "{}", "{" * 100_000, '{"format": 2}', '{"format": 1, "action": "create_shadow_copy", "run_id": "x"}'])
def test_an_intent_that_cannot_be_understood_stays_and_is_told(host: Any, text: str) -> None:
    host.run(hyperv_shadow_copy, volume="D:\\", run_id="night-1")
    with host.fleet.locked():
        host.running.host.files.write_file(f"{STATE}\\intents\\night-2_0a1b2c3d.json", text.encode())
    later(host, 7 * HOUR)
    result = clean(host, remove=True)
    assert kinds(result["removed"]) == ["intent", "shadow_copy"]
    (damaged,) = [item for item in result["found"] if item["status"] == "damaged"]
    assert damaged["id"].lower() == f"{STATE}\\intents\\night-2_0a1b2c3d.json".lower()
    assert of_ours(host)["intents"] == ["night-2_0a1b2c3d.json"]


def test_what_cannot_be_removed_is_a_failure_with_directions_and_the_rest_goes(host: Any) -> None:
    stuck = host.run(hyperv_shadow_copy, volume="D:\\", run_id="night-1")["shadow_copy"]["id"]
    host.run(hyperv_shadow_copy, volume="E:\\", run_id="night-2")
    later(host, 7 * HOUR)
    with host.fleet.locked():
        host.running.host.shadows.find(stuck).locked = True
    result = clean(host, remove=True)
    assert (result["failed"], result["error_code"], result["changed"]) == (True, "cleanup_failed", True)
    assert {item["run_id"] for item in result["removed"]} == {"night-2"}
    assert (kinds(result["leftovers"]), result["leftovers"][0]["id"]) == (["intent", "shadow_copy"], stuck)
    assert shadows(host) == [stuck]
    with host.fleet.locked():
        host.running.host.shadows.find(stuck).locked = False
    assert clean(host, remove=True)["leftovers"] == []
    assert (shadows(host), of_ours(host)) == ([], {})


def test_a_planted_state_folder_is_never_believed(start: Start) -> None:
    """An ordinary user names another product's shadow copy as ours."""
    runner = start(volumes=VOLUMES)
    theirs = foreign(runner)
    with runner.fleet.locked():
        files = runner.running.host.files
        files.create_directory(STATE)
        files.create_directory(STATE + "\\s")
        files.make_link(f"{STATE}\\s\\{theirs}", "C:\\Windows", "junction")
    later(runner, 7 * HOUR)
    with pytest.raises(HypervError) as refused:
        clean(runner, remove=True)
    assert refused.value.error_code == "state_dir_untrusted"
    assert shadows(runner) == [theirs]


@pytest.mark.parametrize("locale", ["en-US", "de-DE", "ja-JP"])
def test_a_folder_that_a_user_planted_and_then_closed_is_not_believed(start: Start, locale: str) -> None:
    """He may close his own folder exactly as the collection closes its own; what he put into it before still stands there."""
    runner = start(volumes=VOLUMES, locale=locale, accounts=(ADMINISTRATOR, Account("joe", "J0e-password")))
    theirs = foreign(runner)
    with runner.fleet.locked():
        joe = runner.running.host.files_as("joe")
        joe.make_folder(STATE)
        joe.make_folder(STATE + "\\s")
        joe.link(f"{STATE}\\s\\{theirs}", "C:\\Windows")
        aces = tuple(Ace(sid, acl.FULL, frozenset({"OI", "CI"})) for sid in (acl.SYSTEM, acl.ADMINISTRATORS))
        joe.files.set_acl(joe.files.resolve(STATE), Acl(aces, protected=True), joe.token)
    later(runner, 7 * HOUR)
    assert clean(runner)["counts"]["ours"] == 1, "an audit can only say what the folder says"
    for attempt in (lambda: clean(runner, remove=True), lambda: runner.run(hyperv_shadow_copy, volume="D:\\")):
        with pytest.raises(HypervError) as refused:
            attempt()
        assert (refused.value.error_code, "does not belong to Administrators" in refused.value.message) == ("state_dir_untrusted", True)
    assert (shadows(runner), names(runner, "C:\\Windows\\Temp")) == ([theirs], [])
    assert [name for name in names(runner, "C:\\ProgramData") if "agentless" in name] == ["agentless.hyperv"]


@pytest.mark.parametrize("older_than", ["", "soon", "0h", "-1h"])
def test_an_age_is_an_age(start: Start, older_than: str) -> None:
    with pytest.raises(HypervError) as refused:
        clean(start(volumes=VOLUMES), older_than=older_than)
    assert refused.value.error_code == "invalid_older_than"


@pytest.mark.parametrize("effect", [lost_before, lost_after])
@pytest.mark.parametrize("text", ["rmdir", "transfer/Delete", "del /F", "dir /B"])
def test_whatever_gets_lost_the_next_run_ends_it(host: Any, effect: Callable[[], Any], text: str) -> None:
    incomplete(host)
    with host.fleet.locked():
        host.running.host.rules.add(effect(), when=lambda view: text in view.document)
    try:
        clean(host, remove=True)
    except HypervError as error:
        assert error.error_code in ("outcome_unknown", "unreachable")
    with host.fleet.locked():
        host.running.host.rules.clear()
    assert clean(host, remove=True)["leftovers"] == []
    assert (shadows(host), of_ours(host)) == ([], {})


@pytest.mark.parametrize("after", [False, True], ids=["before it sends", "before the answer"])
def test_a_copy_killed_at_any_message_leaves_nothing_that_the_clean_up_does_not_find(start: Start, after: bool) -> None:
    """Every message with ``FAULT_HARNESS=all``, else a sample that moves with the kind of kill."""
    number = 1 if os.environ.get("FAULT_HARNESS") == "all" else 3 + after
    step = 1 if os.environ.get("FAULT_HARNESS") == "all" else 13
    tried = 0
    while True:
        runner = start(volumes=VOLUMES, vms=(VmSpec("sql01", folder="D:\\VMs\\sql01"),))
        theirs = [foreign(runner), foreign(runner, context="ClientAccessible")]
        if not killed(runner, hyperv_vss_copy, {"name": "sql01", "destination": "E:\\Backup"}, number=number, after=after):
            break
        theirs.append(foreign(runner))
        later(runner, 7 * HOUR)
        result = clean(runner, remove=True)
        assert result["leftovers"] == [], number
        assert (shadows(runner), of_ours(runner)) == (theirs, {}), number
        assert clean(runner, remove=True)["found"] == [], number
        number, tried = number + step, tried + 1
    assert tried >= 3
