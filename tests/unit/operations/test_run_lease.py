# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lease of a run on a simulated host: what it costs, when it is renewed, and what a second run sees of it."""
from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError, Leftover
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.run_lease import RunLease
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import files, leases, state, state_contents, system
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.files import Text
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.leases import LeaseFolder, LeaseHeld, LeaseLost
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.programs import writing_programs
from simulator.soap.rules import lost_after, lost_before
from simulator.spec import Quirks
from support.windows_host import WindowsHost, windows_host

LEASES = "C:\\ProgramData\\agentless.hyperv\\leases"


@pytest.fixture
def hv(tmp_path: Path) -> Iterator[WindowsHost]:
    with windows_host(tmp_path / "host") as host:
        yield host


def lease_of(hv: WindowsHost, run_id: str = "night-1", **options: object) -> RunLease:
    return RunLease(hv.writer, hv.clock, hv.folder, run_id, **options)  # type: ignore[arg-type]  # passed on


def read(hv: WindowsHost) -> tuple[LeaseFolder, ...]:
    return state_contents.read_leases(hv.writer, hv.folder)


def alive(hv: WindowsHost) -> frozenset[str]:
    return leases.alive_runs(read(hv), system.read_time(hv.writer))


def requests(hv: WindowsHost) -> int:
    with hv.fleet.locked():
        return sum(hv.host.counters.snapshot().by_operation.values())


def test_the_state_folder_has_a_place_for_leases_and_jobs(hv: WindowsHost) -> None:
    assert hv.names("C:\\ProgramData\\agentless.hyperv") == ["intents", "jobs", "leases", "s"]
    with hv.fleet.locked():
        hv.host.files.remove_directory(hv.host.files.resolve(LEASES))
    state.ensure(hv.writer, hv.folder)
    assert hv.names("C:\\ProgramData\\agentless.hyperv") == ["intents", "jobs", "leases", "s"], "an older installation gets them, too"


def test_a_lease_stands_from_the_beginning_to_the_end(hv: WindowsHost) -> None:
    with lease_of(hv) as held:
        (name,) = hv.names(f"{LEASES}\\night-1")
        assert (name.split("_")[1], alive(hv)) == ("night-1", {"night-1"})
    assert (hv.names(LEASES), alive(hv), held.leftovers) == ([], frozenset(), [])


def test_it_is_given_back_after_an_error_and_adds_nothing_to_it(hv: WindowsHost) -> None:
    with pytest.raises(HypervError, match=r"^mine$"), lease_of(hv):
        raise HypervError("mine")
    assert hv.names(LEASES) == []


def test_keeping_costs_nothing_until_less_than_ten_minutes_are_left(hv: WindowsHost) -> None:
    with lease_of(hv) as held:
        before, (entry,) = requests(hv), hv.names(f"{LEASES}\\night-1")
        for _unused in range(10):
            held.keep()
            hv.clock.sleep(60)
        assert requests(hv) == before
        hv.clock.sleep(1)
        held.keep()
        (later,) = hv.names(f"{LEASES}\\night-1")
        assert later > entry
        asked = requests(hv)
        assert asked > before
        held.keep()
        assert requests(hv) == asked


def test_a_run_of_days_keeps_its_lease(hv: WindowsHost) -> None:
    with lease_of(hv) as held:
        for _unused in range(100):
            hv.clock.sleep(901)
            held.keep()
            assert alive(hv) == {"night-1"}
    assert hv.names(LEASES) == []


def test_a_retry_adopts_and_the_first_one_stops(hv: WindowsHost) -> None:
    with pytest.raises(LeaseLost), lease_of(hv) as first, lease_of(hv, "NIGHT-1") as second:
        hv.clock.sleep(601)
        second.keep()
        first.keep()
    assert (hv.names(LEASES), first.leftovers, second.leftovers) == ([], [], [])


def test_a_lost_lease_stays_lost(hv: WindowsHost) -> None:
    with lease_of(hv) as first, lease_of(hv):
        hv.clock.sleep(601)
        for _unused in range(2):
            with pytest.raises(LeaseLost):
                first.keep()


def test_who_cleans_up_behind_a_dead_run_keeps_its_retry_out(hv: WindowsHost) -> None:
    with lease_of(hv, holder="cleaner"):
        assert alive(hv) == {"night-1"}
        with pytest.raises(LeaseHeld), lease_of(hv):
            pass


def test_cancelling_takes_the_lease_from_a_run_at_work(hv: WindowsHost) -> None:
    with lease_of(hv) as running, pytest.raises(LeaseHeld), lease_of(hv, holder="cleaner"):
        pass
    with lease_of(hv) as running, lease_of(hv, holder="cleaner", seize=True):
        hv.clock.sleep(601)
        with pytest.raises(LeaseLost, match="cleaner"):
            running.keep()
    with lease_of(hv, holder="cleaner", seize=True):
        assert alive(hv) == {"night-1"}, "one without a lease, too"
    assert hv.names(LEASES) == []


def test_a_dead_run_is_dead_after_the_grace_time(hv: WindowsHost) -> None:
    lease_of(hv).__enter__()
    hv.clock.sleep(20 * 60 + 299)
    assert alive(hv) == {"night-1"}
    hv.clock.sleep(2)
    assert alive(hv) == frozenset()
    (folder,) = read(hv)
    assert leases.alive_runs([folder], hv.clock.utcnow() - timedelta(seconds=2)) == {"night-1"}
    assert "NIGHT-1" in leases.alive_runs([folder], hv.clock.utcnow() - timedelta(seconds=2))
    assert (folder.name, folder.staged, folder.found.lease is not None) == ("night-1", False, True)


@pytest.mark.parametrize("effect", [lost_before(), lost_after()], ids=lambda one: one.name)
@pytest.mark.parametrize("nth", range(1, 7))
def test_a_lost_answer_to_a_renewal_does_not_end_a_run(hv: WindowsHost, effect: object, nth: int) -> None:
    with lease_of(hv) as held:
        hv.clock.sleep(700)
        hv.host.rules.add(effect, nth=nth)  # type: ignore[arg-type]  # an effect
        held.keep()
        hv.clock.sleep(61)
        held.keep()
        hv.host.rules.clear()
        hv.clock.sleep(1000)
        held.keep()
        assert alive(hv) == {"night-1"}
    assert (hv.names(LEASES), held.leftovers) == ([], [])


def test_a_renewal_that_never_works_ends_the_run_only_with_the_lease(hv: WindowsHost) -> None:
    with pytest.raises(HypervError) as error, lease_of(hv) as held:
        hv.host.rules.add(lost_before(), when=lambda view: "AGH_LEASE" in view.document, times=None)
        for minute in range(30):
            assert minute < 21
            held.keep()
            hv.clock.sleep(60)
    assert error.value.error_code in ("outcome_unknown", "unreachable")
    hv.host.rules.clear()
    (left,) = held.leftovers
    assert (left.kind, left.id, left.location, left.remove_with) == (
        "lease", "night-1", f"{LEASES}\\night-1", f'rmdir /s /q "{LEASES}\\night-1"')


@pytest.mark.parametrize("quirks", [Quirks(), Quirks(refuse_wql_namespaces=("root/cimv2",))], ids=["filters", "no filters"])
def test_what_is_read_of_leases(tmp_path: Path, quirks: Quirks) -> None:
    with windows_host(tmp_path / "host", quirks=quirks) as hv:
        assert read(hv) == ()
        with lease_of(hv, "Night-1"):
            hv.put(f"{LEASES}\\dead\\20200101T000000Z_dead_aaaaaaaaaaaa.lease", b"")
            hv.put(f"{LEASES}\\odd\\readme.txt", b"")
            hv.put(f"{LEASES}\\night-2.aaaaaaaaaaaa\\20990101T000000Z_night-2_aaaaaaaaaaaa.lease", b"")
            hv.put(f"{LEASES}\\not a run\\x", b"")
            with hv.fleet.locked():
                hv.host.files.create_directory(f"{LEASES}\\empty")
            found = {folder.name.lower(): folder for folder in read(hv)}
            assert sorted(found) == ["dead", "empty", "night-1", "night-2.aaaaaaaaaaaa", "not a run", "odd"]
            assert alive(hv) == {"night-1", "odd", "not a run"}
        assert found["night-2.aaaaaaaaaaaa"].staged
        assert [found[name].found.damage is not None for name in ("dead", "odd", "not a run", "empty")] == [False, True, True, False]
        assert found["night-1"].found.lease is not None
        left = found["night-1"].found.lease.expires - hv.clock.utcnow()
        assert timedelta(minutes=19) < left <= timedelta(minutes=20)


def test_a_host_without_leases_is_asked_once(hv: WindowsHost) -> None:
    before = requests(hv)
    assert read(hv) == ()
    assert requests(hv) - before == 1


# -- with a text that announces the run --------------------------------------------------------------------------------

INTENTS = "C:\\ProgramData\\agentless.hyperv\\intents"
TEXT = Text(f"{INTENTS}\\night-1.json.tmp", f"{INTENTS}\\night-1.checkpoint", b'{\r\n "a": "b"\r\n}\r\n')
LEFT = Leftover("intent", TEXT.final, INTENTS, "del")


def shells(hv: WindowsHost) -> int:
    with hv.fleet.locked():
        return hv.host.counters.snapshot().by_operation.get("Shell Create", 0)


def test_the_lease_and_the_text_are_made_in_one_program_and_taken_back_in_one(hv: WindowsHost) -> None:
    now, before = system.read_time(hv.writer), shells(hv)
    with lease_of(hv, host_time=lambda: now, announce=TEXT) as held:
        assert (hv.names(INTENTS), hv.read(TEXT.final), alive(hv)) == (["night-1.checkpoint"], TEXT.data, {"night-1"})
        held.retract(LEFT)
    assert (hv.names(INTENTS), hv.names(LEASES), held.leftovers, shells(hv) - before) == ([], [], [], 2)


def test_a_text_that_is_not_taken_back_stays(hv: WindowsHost) -> None:
    with lease_of(hv, announce=TEXT):
        pass
    assert (hv.read(TEXT.final), hv.names(LEASES)) == (TEXT.data, [])


def test_nothing_is_announced_while_somebody_else_has_the_lease(hv: WindowsHost) -> None:
    with lease_of(hv, holder="other"), pytest.raises(LeaseHeld), lease_of(hv, announce=TEXT):
        pass
    assert hv.names(INTENTS) == []


def test_a_retry_adopts_the_lease_and_announces_itself(hv: WindowsHost) -> None:
    with lease_of(hv), lease_of(hv, announce=TEXT) as held:
        assert hv.read(TEXT.final) == TEXT.data
        held.retract(LEFT)
    assert (hv.names(INTENTS), hv.names(LEASES), held.leftovers) == ([], [], [])


@pytest.mark.parametrize("nth", [1, 2])
def test_lost_answers_to_both_programs_leave_nothing_behind(hv: WindowsHost, nth: int) -> None:
    with hv.fleet.locked():
        rule = hv.host.rules.add(lost_after(), "Shell Command", nth=nth)
    with lease_of(hv, announce=TEXT) as held:
        assert (hv.read(TEXT.final), alive(hv)) == (TEXT.data, {"night-1"})
        held.retract(LEFT)
    assert (rule.fired, hv.names(INTENTS), hv.names(LEASES)) == (1, [], [])


def test_what_cannot_be_taken_back_is_told(hv: WindowsHost) -> None:
    with lease_of(hv, announce=TEXT) as held:
        held.retract(LEFT)
        with hv.fleet.locked():
            hv.host.rules.add(lost_before(), "Shell *", times=None)
    assert sorted(one.kind for one in held.leftovers) == ["intent", "lease"]


@pytest.mark.parametrize(("times", "left"), [(2, []), (None, ["intent"])], ids=["for a while", "for good"])
def test_a_text_that_nobody_saw_written_goes_or_is_told(hv: WindowsHost, times: int | None, left: list[str]) -> None:
    with hv.fleet.locked():
        hv.host.rules.add(lost_after(), "Shell Receive", nth=1)  # the text is written, and the look at the lease answers
        hv.host.rules.add(lost_before(), "Shell Command", nth=3, times=times)
    with pytest.raises(HypervError) as error, lease_of(hv, announce=TEXT):
        pass
    assert [one.kind for one in error.value.leftovers] == left
    assert hv.names(INTENTS) == (["night-1.checkpoint"] if left else [])


def test_a_text_whose_end_did_not_arrive_never_gets_its_name(hv: WindowsHost) -> None:
    with writing_programs(hv.writer, TEXT.values()) as programs:
        assert programs.run(files.WRITE_TEXT, timeout=60, stdin=TEXT.data[:-5]).exit_code != 0
    assert hv.names(INTENTS) == ["night-1.json.tmp"]
    with pytest.raises(ValueError, match="last line"):
        files.last_line(b"a\r\na\r\n")
