# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``hyperv_shadow_copy`` and ``hyperv_shadow_copy_info`` against a simulated host."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import AccessDenied, HypervError, OutcomeUnknown
from ansible_collections.agentless.hyperv.plugins.modules import hyperv_shadow_copy, hyperv_shadow_copy_info
from simulator.soap.rules import fault, lost_after, lost_before
from simulator.spec import Quirks
from simulator.windows.spec import VolumeSpec

Start = Callable[..., Any]
VOLUMES = (VolumeSpec("C:"), VolumeSpec("D:"), VolumeSpec("E:"))
STATE = "C:\\ProgramData\\agentless.hyperv"
CREATE = "Invoke Win32_ShadowCopy.Create"
HOUR = 3600


def make(runner: Any, **params: Any) -> dict[str, Any]:
    result: dict[str, Any] = runner.run(hyperv_shadow_copy, **{"volume": "D:\\", **params})
    return result


def remove(runner: Any, shadow_id: str, **params: Any) -> dict[str, Any]:
    result: dict[str, Any] = runner.run(hyperv_shadow_copy, state="absent", id=shadow_id, **params)
    return result


def info(runner: Any, **params: Any) -> dict[str, Any]:
    result: dict[str, Any] = runner.run(hyperv_shadow_copy_info, **params)
    return result


def shadows(runner: Any) -> list[str]:
    with runner.fleet.locked():
        return [shadow.shadow_id for shadow in runner.running.host.shadows.copies]


def foreign(runner: Any, drive: str = "D:\\", **values: Any) -> str:
    with runner.fleet.locked():
        return str(runner.running.host.shadows.add_foreign(drive, **values).shadow_id)


def entries(runner: Any, part: str) -> list[str]:
    with runner.fleet.locked():
        files = runner.running.host.files
        if not files.exists(f"{STATE}\\{part}"):
            return []
        return [entry.parts[-1] for entry in files.children(files.resolve(f"{STATE}\\{part}"))]


def later(runner: Any, seconds: float) -> None:
    with runner.fleet.locked():
        runner.running.host.clock.advance(seconds)


def owners(result: dict[str, Any]) -> dict[str, str]:
    return {entry["id"]: entry["owner"] for entry in result["shadow_copies"]}


def test_a_shadow_copy_is_made_and_is_provably_ours(start: Start) -> None:
    runner = start(volumes=VOLUMES)
    result = make(runner, run_id="night-1")
    made = result["shadow_copy"]
    assert (result["changed"], result["run_id"], result["leftovers"]) == (True, "night-1", [])
    assert (made["owner"], made["reason"], made["linked"], made["run_id"], made["path"]) == ("ours", "linked", True, "night-1", "D:\\")
    assert (made["client_accessible"], made["no_writers"], made["persistent"], made["provider"]) == (True, True, True, "system")
    assert shadows(runner) == [made["id"]]
    assert entries(runner, "s") == [made["id"]]
    (intent,) = entries(runner, "intents")
    assert intent.startswith("night-1_")
    assert intent.endswith(f".{made['id']}.json")
    (listed,) = info(runner)["shadow_copies"]
    assert {key: value for key, value in listed.items() if key not in ("age", "storage")} == {
        key: value for key, value in made.items() if key not in ("age", "storage")
    }


@pytest.mark.parametrize("volume", ["D:", "d:\\", "D:/", "device id"])
def test_a_volume_is_named_by_its_mount_point_or_its_device_id(start: Start, volume: str) -> None:
    runner = start(volumes=VOLUMES)
    with runner.fleet.locked():
        device = next(one.device_id for one in runner.running.host.files.volumes if one.mount_path == "D:\\")
    assert make(runner, volume=device if volume == "device id" else volume)["shadow_copy"]["volume"] == device


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"volume": "D:\\VMs"}, "volume_not_found"),
        ({"volume": "Z:"}, "volume_not_found"),
        ({"volume": "\\\\fs\\share"}, "volume_not_found"),
        ({"volume": "\\"}, "volume_not_found"),
        ({"volume": "F:"}, "file_system"),
        ({"run_id": "a b"}, "invalid_run_id"),
        ({"run_id": "..\\x"}, "invalid_run_id"),
        ({"max_age": "soon"}, "invalid_max_age"),
    ],
)
def test_what_is_refused_is_refused_before_anything_is_written(start: Start, params: dict[str, str], code: str) -> None:
    runner = start(volumes=(*VOLUMES, VolumeSpec("F:", filesystem="ReFS")))
    with pytest.raises(HypervError) as refused:
        make(runner, **params)
    assert refused.value.error_code == code
    assert runner.running.host.changes == 0


def test_the_same_run_and_a_younger_one_count_as_present(start: Start) -> None:
    runner = start(volumes=VOLUMES)
    first = make(runner, run_id="night-1")
    before = runner.running.host.counters.snapshot()
    again = make(runner, run_id="NIGHT-1")
    assert (again["changed"], again["shadow_copy"]["id"], again["run_id"]) == (False, first["shadow_copy"]["id"], "night-1")
    assert make(runner, max_age="1h")["changed"] is False
    assert make(runner, run_id="night-2", max_age="1h")["shadow_copy"]["id"] == first["shadow_copy"]["id"]
    assert runner.running.host.counters.since(before).writing == 0
    later(runner, 2 * HOUR)
    assert make(runner, max_age="1h")["changed"] is True
    assert make(runner, run_id="night-1", max_age="1h")["changed"] is False
    assert make(runner, volume="E:\\", run_id="night-1")["changed"] is True, "another volume"
    assert make(runner)["changed"] is True
    assert len(shadows(runner)) == 4


def test_what_others_made_never_counts_as_present(start: Start) -> None:
    runner = start(volumes=VOLUMES)
    theirs = foreign(runner, context="ClientAccessible")
    assert make(runner, max_age="1d")["changed"] is True
    assert theirs in shadows(runner)


def test_check_mode_predicts_and_writes_nothing(start: Start) -> None:
    runner = start(volumes=VOLUMES)
    result = make(runner, run_id="night-1", check=True)
    assert (result["changed"], result["run_id"], result["shadow_copy"]["path"]) == (True, "night-1", "D:\\")
    assert result["diff"]["before"] == {"volume": "D:\\", "shadow_copies": []}
    assert [step["action"] for step in result["diff"]["after"]["steps"]] == ["create_shadow_copy"]
    made = make(runner, run_id="night-1")["shadow_copy"]["id"]
    changes = runner.running.host.changes
    gone = remove(runner, made, check=True)
    assert gone["changed"] is True
    assert [step["action"] for step in gone["diff"]["after"]["steps"]] == ["remove_link", "delete_shadow_copy", "remove_intent"]
    assert remove(runner, "{00000000-0000-0000-0000-000000000000}", check=True)["changed"] is False
    assert runner.running.host.changes == changes


@pytest.mark.parametrize("spelling", [str, str.lower, lambda text: text.strip("{}")], ids=["as shown", "lower case", "no braces"])
def test_a_shadow_copy_goes_with_its_link_and_its_intent(start: Start, spelling: Callable[[str], str]) -> None:
    runner = start(volumes=VOLUMES)
    stays, made = make(runner, volume="E:")["shadow_copy"]["id"], make(runner)["shadow_copy"]["id"]
    result = remove(runner, spelling(made))
    assert (result["changed"], result["shadow_copy"]["owner"], result["diff"]["before"]["shadow_copy"]["id"]) == (True, "ours", made)
    assert shadows(runner) == entries(runner, "s") == [stays]
    assert len(entries(runner, "intents")) == 1
    again = remove(runner, made)
    assert (again["changed"], again["shadow_copy"]) == (False, None)


def test_a_foreign_shadow_copy_goes_only_when_it_is_named(start: Start) -> None:
    runner = start(volumes=VOLUMES)
    theirs, other = foreign(runner), foreign(runner)
    result = remove(runner, theirs)
    (step,) = result["diff"]["after"]["steps"]
    assert (step["action"], step["owner"], step["reason"]) == ("delete_shadow_copy", "foreign", "no_trace")
    assert shadows(runner) == [other]
    assert entries(runner, "s") == []


@pytest.mark.parametrize("shadow_id", ["all", "D:\\", "{3808876B-C176-4E48-B7AE}", "*"])
def test_only_an_id_is_an_id(start: Start, shadow_id: str) -> None:
    runner = start(volumes=VOLUMES)
    with pytest.raises(HypervError) as refused:
        remove(runner, shadow_id)
    assert refused.value.error_code == "invalid_id"


def test_a_link_without_its_shadow_copy_goes_too(start: Start) -> None:
    runner = start(volumes=VOLUMES)
    made = make(runner)["shadow_copy"]["id"]
    with runner.fleet.locked():
        service = runner.running.host.shadows
        service.remove(service.copies[0])
    assert info(runner)["stale_links"] == [made.lower()]
    assert remove(runner, made)["changed"] is True
    assert entries(runner, "s") == entries(runner, "intents") == []


@pytest.mark.parametrize(
    ("answers", "code"),
    [
        ([7, 7, 7], None),
        ([7] * 4, "vss_volume_in_use"),
        ([9, 9], None),
        ([10], None),
        ([10, 10], "vss_provider_veto"),
        ([12], None),
        ([12, 12], "vss_provider_failed"),
        ([1], "access_denied"),
        ([2], "vss_invalid_argument"),
        ([3], "vss_volume_not_found"),
        ([4], "vss_volume_not_supported"),
        ([5], "vss_context_not_supported"),
        ([6], "vss_insufficient_storage"),
        ([8], "vss_too_many"),
        ([11], "vss_provider_missing"),
        ([13], "vss_unknown"),
        ([77], "vss_unknown"),
    ],
)
def test_return_values_of_create(start: Start, answers: list[int | None], code: str | None) -> None:
    runner = start(volumes=VOLUMES)
    with runner.fleet.locked():
        runner.running.host.shadows.answers = list(answers)
    if code is None:
        assert make(runner)["shadow_copy"]["owner"] == "ours"
        return
    with pytest.raises(HypervError) as refused:
        make(runner)
    assert (refused.value.error_code, refused.value.return_value, refused.value.leftovers) == (code, answers[-1], ())
    assert shadows(runner) == entries(runner, "intents") == entries(runner, "s") == []


def test_the_intent_is_renewed_while_another_creation_is_waited_for(start: Start) -> None:
    """A run that dies after a long wait can still prove what is its own: the time that counts is that of the last try."""
    runner = start(volumes=VOLUMES)
    with runner.fleet.locked():
        host = runner.running.host
        host.shadows.occupy(400)
        host.clock.call_later(100, lambda: host.shadows.add_foreign("D:\\", context="ClientAccessible"))
        host.rules.add(lost_after(), operation=CREATE, when=lambda _view: not host.shadows.busy)
    result = make(runner)
    assert result["shadow_copy"]["owner"] == "ours"
    assert sorted(owners(info(runner)).values()) == ["foreign", "ours"]


def test_a_lost_answer_is_settled_by_looking(start: Start) -> None:
    runner = start(volumes=VOLUMES)
    foreign(runner, context="ClientAccessible")
    with runner.fleet.locked():
        runner.running.host.rules.add(lost_after(), operation=CREATE)
    result = make(runner, run_id="night-1")
    assert (result["changed"], result["shadow_copy"]["owner"], result["shadow_copy"]["run_id"]) == (True, "ours", "night-1")
    assert len(shadows(runner)) == 2


def test_what_cannot_be_proven_stays_and_is_told(start: Start) -> None:
    """Another product makes one of the same kind in the same moment: nobody can tell which is ours."""
    runner = start(volumes=VOLUMES)
    with runner.fleet.locked():
        host = runner.running.host
        host.shadows.on_taken.append(lambda copy: None if copy.foreign else host.shadows.add_foreign("D:\\", context="ClientAccessible"))
        host.rules.add(lost_after(), operation=CREATE)
    with pytest.raises(OutcomeUnknown) as unknown:
        make(runner)
    suspects = {leftover.id for leftover in unknown.value.leftovers if leftover.kind == "suspect_shadow_copy"}
    assert suspects == set(shadows(runner))
    assert {leftover.kind for leftover in unknown.value.leftovers} == {"suspect_shadow_copy", "intent"}
    listed = info(runner)
    assert (set(owners(listed).values()), listed["counts"]) == ({"suspect"}, {"ours": 0, "suspect": 2, "foreign": 0})
    assert {entry["reason"] for entry in listed["shadow_copies"]} == {"several_candidates"}
    gone, stays = shadows(runner)
    assert remove(runner, gone)["shadow_copy"]["owner"] == "suspect"
    assert owners(info(runner)) == {stays: "foreign"}, "who removes one has decided which it was"
    assert entries(runner, "intents") == []


def test_a_creation_that_never_began_leaves_an_intent_and_no_false_claim(start: Start) -> None:
    runner = start(volumes=VOLUMES)
    with runner.fleet.locked():
        runner.running.host.rules.add(fault("timed_out"), operation=CREATE)
    with pytest.raises(OutcomeUnknown) as unknown:
        make(runner, run_id="night-1")
    assert [leftover.kind for leftover in unknown.value.leftovers] == ["intent"]
    assert shadows(runner) == []
    assert make(runner, run_id="night-1")["changed"] is True


def test_a_run_that_was_interrupted_before_the_link_is_taken_up(start: Start) -> None:
    runner = start(volumes=VOLUMES)
    made = make(runner, run_id="night-1")["shadow_copy"]
    with runner.fleet.locked():  # as it is when the run ends between the two
        files = runner.running.host.files
        (link,) = files.children(files.resolve(f"{STATE}\\s"))
        files.remove_directory(link)
        (intent,) = files.children(files.resolve(f"{STATE}\\intents"))
        name = intent.parts[-1].replace(f".{made['id']}", "")
        files.rename(intent, files.resolve(f"{STATE}\\intents\\{name}"))
    (listed,) = info(runner)["shadow_copies"]
    assert (listed["owner"], listed["reason"], listed["run_id"], listed["linked"]) == ("ours", "announced", "night-1", False)
    taken = make(runner, run_id="night-1")
    assert (taken["changed"], taken["shadow_copy"]["id"], taken["shadow_copy"]["reason"]) == (True, made["id"], "linked")
    assert [step["action"] for step in taken["diff"]["after"]["steps"]] == ["link_shadow_copy"]
    assert entries(runner, "s") == [made["id"]]
    assert make(runner, run_id="night-1")["changed"] is False


def test_a_link_that_cannot_be_made_takes_everything_back(start: Start) -> None:
    runner = start(volumes=VOLUMES)
    for effect in (lost_before, lost_after, lambda: fault("access_denied")):
        with runner.fleet.locked():
            runner.running.host.rules.add(effect(), operation="Shell Command", when=lambda view: "mklink" in view.document)
        with pytest.raises(HypervError) as failed:
            make(runner)
        assert failed.value.leftovers == ()
        assert shadows(runner) == entries(runner, "s") == entries(runner, "intents") == []


def test_one_that_cannot_be_deleted_is_a_failure_with_directions(start: Start) -> None:
    runner = start(volumes=VOLUMES)
    made = make(runner)["shadow_copy"]["id"]
    with runner.fleet.locked():
        runner.running.host.shadows.delete_errors = [0x80042306] * 3
    with pytest.raises(HypervError) as failed:
        remove(runner, made)
    assert (failed.value.error_code, [left.id for left in failed.value.leftovers]) == ("vss_delete_failed", [made])
    assert owners(info(runner)) == {made: "ours"}, "the intent still says so"
    assert remove(runner, made)["changed"] is True
    assert shadows(runner) == entries(runner, "intents") == []


def test_a_deletion_whose_answer_is_lost_is_no_failure(start: Start) -> None:
    runner = start(volumes=VOLUMES)
    made = make(runner)["shadow_copy"]["id"]
    with runner.fleet.locked():
        runner.running.host.rules.add(lost_after(), operation="Delete")
    assert remove(runner, made)["leftovers"] == []
    assert shadows(runner) == entries(runner, "s") == entries(runner, "intents") == []


def test_a_planted_state_folder_is_refused(start: Start) -> None:
    runner = start(volumes=VOLUMES)
    with runner.fleet.locked():
        runner.running.host.files.create_directory(STATE)
    with pytest.raises(HypervError) as refused:
        make(runner)
    assert refused.value.error_code == "state_dir_untrusted"
    assert shadows(runner) == []


# -- info ----------------------------------------------------------------------------------------------------------


def test_every_shadow_copy_is_listed_with_everything_about_it(start: Start) -> None:
    runner = start(volumes=VOLUMES)
    theirs = foreign(runner)
    later(runner, 1)
    hardware = foreign(runner, "E:\\", provider="{11111111-2222-3333-4444-555555555555}")
    later(runner, HOUR)
    mine = make(runner, run_id="night-1")["shadow_copy"]["id"]
    result = info(runner)
    by_id = {entry["id"]: entry for entry in result["shadow_copies"]}
    assert list(by_id) == [theirs, hardware, mine]
    assert result["counts"] == {"ours": 1, "suspect": 0, "foreign": 2}
    assert by_id[theirs] | {"created": "", "volume": "", "device": "", "storage": {}} == {
        "id": theirs, "owner": "foreign", "reason": "no_trace", "run_id": None, "linked": False, "created": "", "age": by_id[theirs]["age"],
        "volume": "", "path": "D:\\", "provider": "system", "client_accessible": False, "no_writers": False, "persistent": True,
        "device": "", "storage": {},
    }  # fmt: skip
    assert HOUR <= by_id[theirs]["age"] < HOUR + 60
    assert by_id[hardware]["provider"] == "{11111111-2222-3333-4444-555555555555}"
    assert by_id[mine]["storage"]["largest"] > by_id[mine]["storage"]["allocated"] >= by_id[mine]["storage"]["used"] >= 0
    assert [entry["id"] for entry in info(runner, volume="E:")["shadow_copies"]] == [hardware]


@pytest.mark.parametrize("foreign_copies", [0, 60])
def test_an_audit_asks_at_most_eight_times_and_changes_nothing(start: Start, foreign_copies: int) -> None:
    runner = start(volumes=VOLUMES, quirks=Quirks(split_batches=False), foreign_shadow_copies=("D:\\",) * foreign_copies)
    before = runner.running.host.counters.snapshot()
    assert info(runner)["counts"]["foreign"] == foreign_copies
    asked = runner.running.host.counters.since(before)
    assert asked.requests <= 8
    assert (asked.writing, runner.running.host.changes) == (0, 0)


def test_a_host_that_takes_no_filters_is_read_by_a_program(start: Start) -> None:
    runner = start(volumes=VOLUMES, quirks=Quirks(refuse_wql_namespaces=("root/cimv2",)))
    made = make(runner, run_id="night-1")["shadow_copy"]["id"]
    assert owners(info(runner)) == {made: "ours"}
    assert remove(runner, made)["changed"] is True
    assert info(runner)["shadow_copies"] == []


def test_an_account_without_rights_is_told_so(start: Start) -> None:
    with pytest.raises(AccessDenied):
        start(volumes=VOLUMES).run(hyperv_shadow_copy_info, user="nobody")


def test_a_clock_that_is_wrong_is_told(start: Start) -> None:
    runner = start(skew=timedelta(minutes=20), volumes=VOLUMES)
    info(runner)
    assert any("ahead of the controller" in line for line in runner.told.warnings)
