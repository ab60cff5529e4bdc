# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Leases on a simulated host: one holder at a time, whoever dies wherever, and never by the controller's clock."""
from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Deadline
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError, OutcomeUnknown
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import files, job_runs, leases, system
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.jobs import Job, Stage, Step
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.leases import Found, Lease, LeaseHeld, LeaseLost, LeasePlace
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.programs import Command
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.tasks import TaskName
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.shell import ProgramResult
from hypothesis import given
from hypothesis import strategies as st
from simulator.fileserver import FileServerSpec
from simulator.soap.rules import lost_after, lost_before
from simulator.windows.spec import ShareSpec, VolumeSpec
from support.windows_host import WindowsHost, windows_host

PLACE = LeasePlace("C:\\ProgramData\\agentless.hyperv\\leases", "D")
HOUR = timedelta(hours=1)
A, B = "aaaaaaaaaaaa", "bbbbbbbbbbbb"
NOW = datetime(2026, 3, 1, 22, 0, 0, tzinfo=UTC)
LEASE = Lease(PLACE, "night-1", A, NOW)


@pytest.fixture
def hv(tmp_path: Path) -> Iterator[WindowsHost]:
    with ExitStack() as stack:
        server = FileServerSpec("NAS", "example.test", (VolumeSpec("C:"), VolumeSpec("E:")), (ShareSpec("backup", "E:\\backup"),), (), True)
        yield stack.enter_context(windows_host(tmp_path / "host", file_servers=(server,)))


def runner(hv: WindowsHost) -> Callable[[Command, Mapping[str, str]], ProgramResult]:
    return lambda command, values: files.run(hv.writer, command, values)


def acquire(hv: WindowsHost, run_id: str = "night-1", token: str = A, place: LeasePlace = PLACE, duration: timedelta = HOUR) -> Lease:
    return leases.acquire(runner(hv), place, run_id, token, duration=duration, host_time=lambda: system.read_time(hv.writer))


def renew(hv: WindowsHost, lease: Lease, duration: timedelta = HOUR) -> Lease:
    return leases.renew(runner(hv), lease, duration=duration, host_time=lambda: system.read_time(hv.writer))


def inside(hv: WindowsHost) -> list[str]:
    return hv.names(PLACE.path)


# -- names ---------------------------------------------------------------------------------------------------------------


def test_everything_is_in_the_name() -> None:
    assert LEASE.entry == "20260301T220000Z_night-1_aaaaaaaaaaaa.lease"
    assert leases.read_entries(PLACE, LEASE.entry.encode() + b"\r\n") == Found(lease=LEASE)


@pytest.mark.parametrize(("listed", "found"), [
    (b"", Found()), (b"\r\n", Found()), (b"broken_aaaaaaaaaaaa\r\n", Found(removable="broken_aaaaaaaaaaaa")),
])
def test_what_is_nobodys(listed: bytes, found: Found) -> None:
    assert leases.read_entries(PLACE, listed) == found


@pytest.mark.parametrize("listed", [
    b"x\r\n", LEASE.entry.encode() + b"\r\nx\r\n", b"20261301T220000Z_night-1_aaaaaaaaaaaa.lease\r\n", b"broken_x\r\n",
    b"20260301T220000Z_night-1_aaaaaaaaaaaa.lease.txt\r\n", b"20260301T220000Z_night_1_aaaaaaaaaaaa.lease\r\n", b"\xff\xfe\r\n",
    b"20260301T220000Z_-_aaaaaaaaaaaa.lease\r\n",
])
def test_what_is_damage(listed: bytes) -> None:
    assert leases.read_entries(PLACE, listed).damage


@given(st.binary(max_size=200))
def test_any_listing_is_understood_or_damage(listed: bytes) -> None:
    found = leases.read_entries(PLACE, listed)
    assert sum(part is not None for part in (found.lease, found.removable, found.damage)) <= 1
    assert found.damage is None or found.damage.isprintable()


@given(st.integers(-10**6, 10**6))
def test_when_a_lease_may_be_broken(seconds: int) -> None:
    now = NOW + timedelta(seconds=seconds)
    assert leases.may_break(LEASE, now) == (seconds > 300 or seconds < -(7 * 86400 + 300))


@pytest.mark.parametrize("values", [("a_b", A, HOUR), ("", A, HOUR), ("r", "x", HOUR), ("r", A, timedelta(0)), ("r", A, timedelta(days=8))])
def test_leases_that_cannot_be(values: tuple[str, str, timedelta]) -> None:
    with pytest.raises(ValueError, match="lease"):
        leases.new_lease(PLACE, values[0], values[1], now=NOW, duration=values[2])


@pytest.mark.parametrize("name", ["", "a b", "a\\b", "..", "a.", "%X%", "\u00e9", "x" * 62])
def test_names_of_places(name: str) -> None:
    with pytest.raises(ValueError, match="name of a lease"):
        LeasePlace("C:\\x", name)


@pytest.mark.parametrize("command", [leases.LIST, leases.ACQUIRE, leases.RENAME, leases.REMOVE], ids=lambda command: command.line[:20])
def test_every_value_stands_between_quotes(command: Command) -> None:
    assert not [part for part in command.line.split('"')[::2] if "AGH_" in part]
    assert not command.line.startswith('"')


# -- one host ------------------------------------------------------------------------------------------------------------


def test_a_lease_from_taking_to_giving_back(hv: WindowsHost) -> None:
    lease = acquire(hv)
    assert inside(hv) == [lease.entry]
    assert lease.expires - hv.clock.utcnow() == HOUR
    assert leases.look(runner(hv), PLACE) == Found(lease=lease)
    hv.clock.sleep(60)
    later = renew(hv, lease)
    assert (later.expires - lease.expires, inside(hv)) == (timedelta(seconds=60), [later.entry])
    leases.release(runner(hv), later)
    leases.release(runner(hv), later)
    assert hv.names(PLACE.folder) == []


def test_what_a_lease_costs(hv: WindowsHost) -> None:
    acquire(hv, place=LeasePlace(PLACE.folder, "other"))
    before = hv.host.counters.snapshot()
    acquire(hv)
    spent = hv.host.counters.since(before).by_operation
    assert (spent["Enumerate"], spent["Shell Command"]) == (1, 1), "the host's time and one program"


def test_the_controllers_clock_does_not_matter(hv: WindowsHost) -> None:
    asked = iter([NOW, NOW + HOUR * 2])
    first = leases.acquire(runner(hv), PLACE, "a", A, duration=HOUR, host_time=lambda: next(asked))
    assert first.expires == NOW + HOUR
    second = leases.acquire(runner(hv), PLACE, "b", B, duration=HOUR, host_time=lambda: next(asked))
    assert second.expires == NOW + HOUR * 3


def test_two_runs(hv: WindowsHost) -> None:
    lease = acquire(hv)
    with pytest.raises(LeaseHeld) as error:
        acquire(hv, "other", B)
    assert error.value.details["lease"] == {
        "path": PLACE.path, "run_id": "night-1", "expires": lease.expires.strftime("%Y-%m-%dT%H:%M:%SZ")}
    hv.clock.sleep(3600 + 299)
    with pytest.raises(LeaseHeld):
        acquire(hv, "other", B)
    hv.clock.sleep(2)
    taken = acquire(hv, "other", B)
    assert inside(hv) == [taken.entry]
    with pytest.raises(LeaseLost):
        renew(hv, lease)
    leases.release(runner(hv), lease)
    assert inside(hv) == [taken.entry]
    assert hv.names(PLACE.folder) == ["D"]


def test_a_retry_of_the_same_run_adopts(hv: WindowsHost) -> None:
    dead = acquire(hv)
    alive = acquire(hv, token=B)
    assert inside(hv) == [alive.entry]
    with pytest.raises(LeaseLost):
        renew(hv, dead)


def test_a_renewal_never_shortens(hv: WindowsHost) -> None:
    lease = acquire(hv)
    assert renew(hv, lease, timedelta(minutes=1)) == lease


def test_the_loser_of_a_race_for_an_expired_lease(hv: WindowsHost) -> None:
    """Both have seen the expired lease; the slower one breaks only after the faster one has a new lease in its place."""
    old = acquire(hv, duration=timedelta(seconds=1))
    hv.clock.sleep(1000)
    fast = acquire(hv, "fast", B)
    runner(hv)(leases.REMOVE, {"LEASE": PLACE.path, "OLD": old.entry, "BROKEN": "broken_cccccccccccc"})
    assert inside(hv) == [fast.entry]


@pytest.mark.parametrize("step", [
    ["D.cccccccccccc\\x"], ["D\\broken_cccccccccccc"], ["D.cccccccccccc\\20260301T220000Z_r_cccccccccccc.lease"],
])
def test_what_a_run_left_that_died_on_the_way(hv: WindowsHost, step: list[str]) -> None:
    for name in step:
        hv.put(f"{PLACE.folder}\\{name}", b"")
    lease = acquire(hv)
    assert inside(hv) == [lease.entry]


def test_an_empty_folder_is_nobodys(hv: WindowsHost) -> None:
    hv.put(f"{PLACE.path}\\x", b"")
    with hv.fleet.locked():
        hv.host.files.remove_file(hv.host.files.resolve(f"{PLACE.path}\\x"))
    assert inside(hv) == []
    lease = acquire(hv)
    assert inside(hv) == [lease.entry]


@pytest.mark.parametrize("name", ["readme.txt", "20260301T220000Z_x_y.lease"])
def test_something_else_in_its_place_is_not_touched(hv: WindowsHost, name: str) -> None:
    hv.put(f"{PLACE.path}\\{name}", b"theirs")
    with pytest.raises(HypervError) as error:
        acquire(hv)
    assert error.value.error_code == "lease_damaged"
    assert hv.read(f"{PLACE.path}\\{name}") == b"theirs"


def test_a_file_in_its_place(hv: WindowsHost) -> None:
    hv.put(PLACE.path, b"theirs")
    with pytest.raises(HypervError) as error:
        acquire(hv)
    assert error.value.error_code in ("lease_damaged", "lease_not_made")
    assert hv.read(PLACE.path) == b"theirs"


def test_a_place_where_nothing_can_be_made(hv: WindowsHost) -> None:
    with pytest.raises(HypervError) as error:
        acquire(hv, place=LeasePlace("Z:\\none", "D"))
    assert error.value.error_code == "lease_not_made"


@pytest.mark.parametrize("effect", [lost_before(), lost_after()], ids=lambda one: one.name)
@pytest.mark.parametrize("nth", range(1, 7))
def test_a_lost_answer_never_makes_two_holders(hv: WindowsHost, effect: Any, nth: int) -> None:
    hv.host.rules.add(effect, nth=nth)
    try:
        lease = acquire(hv)
    except HypervError:
        hv.host.rules.clear()
        lease = acquire(hv, token=B)  # a retry of the run
    hv.host.rules.clear()
    assert inside(hv) == [lease.entry]
    with pytest.raises(LeaseHeld):
        acquire(hv, "other", "cccccccccccc")
    leases.release(runner(hv), lease)
    assert [name for name in hv.names(PLACE.folder) if name == "D"] == []


def test_a_lost_answer_is_read_from_the_names(hv: WindowsHost) -> None:
    lost = iter([True])

    def forgetful(command: Command, values: Mapping[str, str]) -> ProgramResult:
        result = files.run(hv.writer, command, values)
        if next(lost, False):
            raise OutcomeUnknown("lost")
        return result

    lease = leases.acquire(forgetful, PLACE, "night-1", A, duration=HOUR, host_time=lambda: system.read_time(hv.writer))
    assert inside(hv) == [lease.entry]


# -- in a job at a UNC target --------------------------------------------------------------------------------------------

SHARE = LeasePlace("\\\\NAS\\backup\\HV01", "lease")
NAME = TaskName("host", "night-1")


def job(hv: WindowsHost, *parts: tuple[Stage, dict[str, str]]) -> job_runs.JobEnd:
    values: dict[str, str] = {}
    for _stage, own in parts:
        values |= own
    made = Job((parts[0][0], Stage((Step("work", 'echo x>>"%AGH_LEASE%\\..\\done"'),)), *(stage for stage, _own in parts[1:])), values)
    return job_runs.run(hv.writer, hv.folder, NAME, made, clock=hv.clock, deadline=Deadline(hv.clock, 600))


def at_server(hv: WindowsHost) -> list[str]:
    return hv.names("E:\\backup\\HV01\\lease", hv.fleet.file_servers["NAS"].files)


def test_a_lease_at_a_share_is_part_of_a_job(hv: WindowsHost) -> None:
    now = hv.clock.utcnow()
    mine = leases.new_lease(SHARE, "night-1", A, now=now, duration=HOUR)
    end = job(hv, leases.acquire_stage(mine), leases.release_stage(mine))
    assert end.result is not None
    assert (end.result.failed, at_server(hv)) == ((), [])
    end = job(hv, leases.acquire_stage(mine))
    assert leases.read_entries(SHARE, end.outputs["lease_list"]) == Found(lease=mine)
    other = leases.new_lease(SHARE, "night-2", B, now=now, duration=HOUR)
    end = job(hv, leases.acquire_stage(other))
    assert end.result is not None
    assert end.result.failed == ("lease_list",)
    assert not end.result.good("work")
    assert leases.read_entries(SHARE, end.outputs["lease_list"]) == Found(lease=mine)
    end = job(hv, leases.replace_stage(other, mine), leases.release_stage(other))
    assert end.result is not None
    assert (end.result.failed, at_server(hv)) == ((), [])
    assert hv.read("E:\\backup\\HV01\\done", hv.fleet.file_servers["NAS"].files) == b"x\r\n" * 3


def test_several_leases_of_one_job() -> None:
    first, second = (leases.new_lease(LeasePlace("D:\\x", name), "r", A, now=NOW, duration=HOUR) for name in ("a", "b"))
    parts = [leases.acquire_stage(first, "L0"), leases.acquire_stage(second, "L1"), leases.release_stage(second, "L1"),
             leases.release_stage(first, "L0")]
    values: dict[str, str] = {}
    for _stage, own in parts:
        values |= own
    made = Job(tuple(stage for stage, _own in parts), values)
    assert {made.values["L0NAME"], made.values["L1NAME"]} == {"a", "b"}
    assert made.outputs == ("l0lease_list", "l1lease_list")
