# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The point of it all: an image of a guest's disk tells whether it is the disk at one instant."""
from __future__ import annotations

import random
import tempfile
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulator.clock import SimClock
from simulator.disks.copying import copy_at_once, copy_in_chunks
from simulator.disks.guest import Guest
from simulator.disks.layout import MIB
from simulator.disks.proof import Proof, Torn, inspect, main, together
from simulator.disks.stamp import DATA_START, INDEX_OFFSET, Index, block, layout
from simulator.disks.vhd import create_vhd_fixed
from simulator.disks.vhdx import Vhdx, create_differencing, create_dynamic, create_fixed

SIZE = 64 * MIB


def new_guest(folder: Path, name: str = "disk.vhdx", seed: int = 7) -> Guest:
    create_dynamic(folder / name, SIZE)
    return Guest(folder / name, seed)


def test_a_chunked_copy_of_the_live_disk_is_caught_and_a_copy_at_once_proves_itself(tmp_path: Path) -> None:
    with new_guest(tmp_path) as guest:
        guest.write_some(100)
        for _unused in copy_in_chunks(tmp_path / "disk.vhdx", tmp_path / "live.vhdx"):
            guest.write_some(3)
            guest.step()  # leaves a half-written block for the next chunk
        limit = guest.sequence
        copy_at_once(tmp_path / "disk.vhdx", tmp_path / "snapshot.vhdx")
        guest.write_some(50)
    live, snapshot = inspect(tmp_path / "live.vhdx"), inspect(tmp_path / "snapshot.vhdx")
    assert not live.consistent
    assert live.torn
    assert live.missing
    assert not live.holds_until(live.last)
    assert snapshot.consistent
    assert snapshot.holds_until(limit)
    assert (snapshot.first, snapshot.last, snapshot.in_flight, snapshot.quiesced) == (limit - 62, limit, limit + 1, False)
    assert not snapshot.holds_until(limit - 1)
    assert not snapshot.holds_until(limit + 1)
    assert inspect(tmp_path / "disk.vhdx").holds_until(limit + 50)


def test_a_chunked_copy_of_a_snapshot_proves_itself_while_the_guest_goes_on(tmp_path: Path) -> None:
    with new_guest(tmp_path) as guest:
        guest.write_some(100)
        guest.step()
        copy_at_once(tmp_path / "disk.vhdx", tmp_path / "snapshot.vhdx")
        limit = guest.sequence
        for _unused in copy_in_chunks(tmp_path / "snapshot.vhdx", tmp_path / "copy.vhdx"):
            guest.write_some(3)
    proof = inspect(tmp_path / "copy.vhdx")
    assert proof.holds_until(limit)
    assert proof.beyond(limit) == ()
    assert proof.beyond(limit - 2) == (limit - 1, limit)


def test_a_chain_frozen_by_a_checkpoint_proves_itself(tmp_path: Path) -> None:
    """Base and first .avhdx stand still behind the new leaf: a slow copy of both is a copy of one instant."""
    paths = [tmp_path / name for name in ("disk.vhdx", "disk_1.avhdx", "disk_2.avhdx")]
    with new_guest(tmp_path) as guest:
        guest.write_some(90)
        create_differencing(paths[1], paths[0], r"C:\VMs\disk.vhdx")
        guest.switch(paths[1])
        guest.write_some(20)
        guest.step()
        limit = guest.sequence
        create_differencing(paths[2], paths[1], r"C:\VMs\disk_1.avhdx")
        guest.switch(paths[2])
        (tmp_path / "copy").mkdir()
        for path in paths[:2]:
            for _unused in copy_in_chunks(path, tmp_path / "copy" / path.name):
                guest.write_some(2)
                guest.step()
        at_the_end = guest.sequence
    assert inspect(tmp_path / "copy" / "disk_1.avhdx").holds_until(limit)
    assert inspect(tmp_path / "copy" / "disk.vhdx").holds_until(90)
    assert inspect(paths[2]).holds_until(at_the_end)


def test_a_live_leaf_over_a_frozen_base_is_caught(tmp_path: Path) -> None:
    with new_guest(tmp_path) as guest:
        guest.write_some(90)
        create_differencing(tmp_path / "leaf.avhdx", tmp_path / "disk.vhdx", r"C:\VMs\disk.vhdx")
        guest.switch(tmp_path / "leaf.avhdx")
        guest.write_some(10)
        (tmp_path / "copy").mkdir()
        copy_at_once(tmp_path / "disk.vhdx", tmp_path / "copy" / "disk.vhdx")
        for _unused in copy_in_chunks(tmp_path / "leaf.avhdx", tmp_path / "copy" / "leaf.avhdx"):
            guest.write_some(4)
            guest.step()
    assert not inspect(tmp_path / "copy" / "leaf.avhdx").consistent


def test_a_quiesced_image_is_told_from_a_crash_consistent_one(tmp_path: Path) -> None:
    with new_guest(tmp_path) as guest:
        guest.write_some(10)
        guest.step()
        guest.freeze()
        assert (guest.sequence, guest.in_flight, guest.frozen) == (11, None, True)
        assert guest.write_some(5) == 11
        copy_at_once(tmp_path / "disk.vhdx", tmp_path / "quiesced.vhdx")
        guest.thaw()
        assert guest.write_some(5) == 16
    proof = inspect(tmp_path / "quiesced.vhdx")
    assert (proof.quiesced, proof.in_flight, proof.first, proof.last) == (True, None, 1, 11)
    assert proof.summary() == "quiesced.vhdx: consistent: writes 1 to 11 are there, none after; quiesced"
    after = inspect(tmp_path / "disk.vhdx")
    assert (after.quiesced, after.last) == (False, 16)


@settings(max_examples=25, deadline=None)
@given(steps=st.integers(0, 400))
def test_the_disk_at_any_instant_is_consistent(steps: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        create_dynamic(folder / "disk.vhdx", 2 * MIB)
        with Guest(folder / "disk.vhdx", slots=16) as guest:
            for _unused in range(steps):
                guest.step()
            proof = inspect(folder / "disk.vhdx")
            assert proof.holds_until(steps // 3)
            assert proof.in_flight == guest.in_flight
            assert proof.first == (0 if steps < 3 else max(1, steps // 3 - 15 + (1 if steps % 3 else 0)))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), pace=st.integers(1, 6))
def test_an_image_that_counts_as_consistent_was_the_disk_at_some_instant(seed: int, pace: int) -> None:
    """Soundness: whatever mix of instants a slow copy gives, a good verdict is given only to a state that existed."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        create_fixed(folder / "disk.vhdx", MIB)
        instants = set()
        with Guest(folder / "disk.vhdx", slots=4) as guest, Vhdx.open(folder / "disk.vhdx", writable=False) as watcher:
            guest.write_some(chance.randrange(12))
            instants.add(watcher.read(0, MIB))
            for done in copy_in_chunks(folder / "disk.vhdx", folder / "copy.vhdx", 64 * 1024):
                if done > 4 * MIB and chance.random() < 0.9:
                    for _unused in range(chance.randrange(pace)):
                        guest.step()
                        instants.add(watcher.read(0, MIB))
        proof = inspect(folder / "copy.vhdx")
        with Vhdx.open(folder / "copy.vhdx") as copy:
            assert proof.consistent == (copy.read(0, MIB) in instants)


def test_writes_follow_simulated_time_and_leave_a_half_written_block_between_ticks(tmp_path: Path) -> None:
    clock = SimClock()
    with new_guest(tmp_path) as guest:
        guest.run(clock, writes_per_second=2)
        clock.advance(10)
        assert (guest.sequence, guest.in_flight) == (20, 21)
        proof = inspect(tmp_path / "disk.vhdx")
        assert proof.holds_until(20)
        assert proof.in_flight == 21
        guest.freeze()
        clock.advance(10)
        assert (guest.sequence, guest.in_flight) == (21, None)
        guest.thaw()
        clock.advance(1)
        assert guest.sequence == 23
        guest.stop()
        clock.advance(60)
        assert guest.sequence == 23
    assert clock.next_due() is None


def test_a_guest_that_starts_again_goes_on_where_the_disk_stands(tmp_path: Path) -> None:
    with new_guest(tmp_path, seed=1) as guest:
        guest.write_some(70)
        guest.step()
    with Guest(tmp_path / "disk.vhdx", seed=2) as guest:
        assert guest.sequence == 70
        assert guest.write_some(1) == 71
    proof = inspect(tmp_path / "disk.vhdx")
    assert proof.holds_until(71)
    assert proof.in_flight is None


def test_a_guest_started_from_a_quiesced_image_clears_the_mark(tmp_path: Path) -> None:
    with new_guest(tmp_path) as guest:
        guest.write_some(5)
        guest.freeze()
    with Guest(tmp_path / "disk.vhdx") as guest:
        assert not guest.frozen
        guest.step()
    proof = inspect(tmp_path / "disk.vhdx")
    assert (proof.consistent, proof.quiesced, proof.last, proof.in_flight) == (True, False, 5, 6)


def test_disks_of_one_guest_prove_that_they_are_of_one_instant(tmp_path: Path) -> None:
    names = ["a.vhdx", "b.vhdx", "c.vhd"]
    create_dynamic(tmp_path / names[0], SIZE)
    create_fixed(tmp_path / names[1], 4 * MIB)
    create_vhd_fixed(tmp_path / names[2], 4 * MIB)
    with Guest([tmp_path / name for name in names], slots=16) as guest:
        assert together([inspect(tmp_path / name) for name in names]) == []
        guest.write_some(100)
        guest.step()
        for name in names:
            copy_at_once(tmp_path / name, tmp_path / f"same-{name}")
        for name in names:
            copy_at_once(tmp_path / name, tmp_path / f"apart-{name}")
            guest.write_some(2)
    same = [inspect(tmp_path / f"same-{name}") for name in names]
    apart = [inspect(tmp_path / f"apart-{name}") for name in names]
    assert together(same) == []
    assert all(proof.holds_until(100) for proof in same)
    assert [proof.last for proof in same] == [99, 100, 98]
    assert all(proof.consistent for proof in apart)
    assert together(apart) == [
        "apart-a.vhdx: ends at write 99 where another disk has write 104",
        "apart-b.vhdx: ends at write 100 where another disk has write 104"]
    assert together(same[:2]) == ["2 of 3 disks, or one twice"]
    assert together([]) == ["no disks"]
    with new_guest(tmp_path, "other.vhdx", seed=9):
        assert together([same[0], inspect(tmp_path / "other.vhdx")]) == ["the disks are of several guests"]


def overwrite(path: Path, offset: int, data: bytes) -> None:
    with Vhdx.open(path) as disk:
        disk.write(offset, data)


def test_each_damage_is_told_apart(tmp_path: Path) -> None:
    with new_guest(tmp_path) as guest:
        guest.write_some(20)
    path = tmp_path / "disk.vhdx"
    with Vhdx.open(path) as disk:
        index = Index.parse(disk.read(INDEX_OFFSET, 512))
    assert index is not None
    sound = path.read_bytes()

    def judged(sequence: int, data: bytes, at: int = 0) -> Proof:
        path.write_bytes(sound)
        assert index is not None
        overwrite(path, index.offset_of(index.slot_of(sequence)) + at, data)
        return inspect(path)

    lost = judged(7, bytes(4096))
    assert (lost.missing, lost.torn, lost.ahead, lost.consistent) == ((7,), (), (), False)
    half = judged(7, bytes(2048), 2048)
    assert half.torn == (Torn(7, 7, (7, 7, 7, 7, 0, 0, 0, 0)),)
    rotten = judged(7, b"\x00\xff", 1000)
    assert rotten.torn == (Torn(7, 7, (7, None, 7, 7, 7, 7, 7, 7)),)
    newer = judged(22, block(index.guest, 22, 22))
    assert (newer.ahead, newer.missing, newer.torn, newer.beyond(20)) == ((22,), (), (), (22,))
    older_instead = judged(20, block(index.guest, 84, 20))
    assert (older_instead.ahead, older_instead.missing) == ((84,), (20,))
    begun = judged(21, block(index.guest, 21, 21)[:2048])
    assert (begun.consistent, begun.in_flight, begun.beyond(20)) == (True, 21, ())
    done_but_not_in_the_index = judged(21, block(index.guest, 21, 21))
    assert done_but_not_in_the_index.holds_until(20)
    assert done_but_not_in_the_index.beyond(19) == (20, 21)
    wrong_order = judged(21, block(index.guest, 21, 21)[2048:], 2048)
    assert wrong_order.torn == (Torn(21, 0, (0, 0, 0, 0, 21, 21, 21, 21)),)
    foreign = judged(7, block(b"another guest...", 7, 7))
    assert foreign.torn == (Torn(7, 7, (None,) * 8),)


def test_what_cannot_be_read_has_a_fault_instead_of_an_exception(tmp_path: Path) -> None:
    create_dynamic(tmp_path / "empty.vhdx", SIZE)
    (tmp_path / "text.vhdx").write_text("no disk")
    (tmp_path / "nothing.vhdx").write_bytes(b"")
    with new_guest(tmp_path) as guest:
        guest.write_some(70)
    whole = (tmp_path / "disk.vhdx").read_bytes()
    (tmp_path / "half.vhdx").write_bytes(whole[:len(whole) // 2])
    for length in (100, 70_000, 200_000, 2 * MIB + 10, 3 * MIB + 4):
        (tmp_path / "cut.vhdx").write_bytes(whole[:length])
        assert inspect(tmp_path / "cut.vhdx").fault is not None
    assert inspect(tmp_path / "empty.vhdx").fault == "no guest has written an index to it"
    for name in ("text.vhdx", "nothing.vhdx", "absent.vhdx", "half.vhdx"):
        proof = inspect(tmp_path / name)
        assert proof.fault
        assert not proof.consistent
        assert not proof.holds_until(0)
        assert proof.summary().startswith(f"{name}: not readable: ")


def chain_apart(tmp_path: Path) -> list[Path]:
    """A chain of three whose files are copied into one folder each; the leaf first."""
    (tmp_path / "VMs" / "Snapshots").mkdir(parents=True)
    paths = [tmp_path / "VMs" / "disk.vhdx", tmp_path / "VMs" / "Snapshots" / "disk_1.avhdx", tmp_path / "VMs" / "disk_2.avhdx"]
    create_dynamic(paths[0], SIZE)
    with Guest(paths[0]) as guest:
        guest.write_some(30)
        for parent, child in pairwise(paths):
            create_differencing(child, parent, rf"C:\VMs\{parent.name}")
            guest.switch(child)
            guest.write_some(10)
            guest.step()
    copies = []
    for number, path in enumerate(reversed(paths)):
        (tmp_path / str(number)).mkdir()
        copies.append(tmp_path / str(number) / path.name)
        copy_at_once(path, copies[-1])
    return copies


def test_parents_that_lie_elsewhere_are_named(tmp_path: Path) -> None:
    copies = chain_apart(tmp_path)
    assert inspect(copies[0]).fault is not None
    assert inspect(copies[0], copies[1:]).holds_until(50)
    assert inspect(copies[1], copies[2:]).holds_until(40)
    assert inspect(copies[2]).holds_until(30)
    assert inspect(copies[0], [copies[2], copies[1]]).fault is not None


def test_a_parent_that_was_written_to_is_a_fault(tmp_path: Path) -> None:
    copies = chain_apart(tmp_path)
    overwrite(copies[2], 48 * MIB, b"one byte where no guest looks")
    assert inspect(copies[0], copies[1:]).fault == "disk.vhdx was written to after disk_1.avhdx was made from it"


def test_the_command_line_tells_in_one_line_and_by_its_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copies = chain_apart(tmp_path)
    names = [str(path) for path in copies]
    assert main(names) == 0
    assert capsys.readouterr().out == "disk_2.avhdx: consistent: writes 1 to 50 are there, none after; write 51 was under way\n"
    assert main([*names, "--until", "50"]) == 0
    assert main([*names, "--until", "49"]) == 1
    assert capsys.readouterr().out.splitlines()[1].endswith("but write 49 was to be the last")
    assert main(names[:1]) == 1
    assert capsys.readouterr().out.startswith("disk_2.avhdx: not readable: ")


def test_a_damaged_image_has_one_readable_line(tmp_path: Path) -> None:
    with new_guest(tmp_path) as guest:
        guest.write_some(20)
    overwrite(tmp_path / "disk.vhdx", DATA_START, b"x" * MIB * 4)
    assert inspect(tmp_path / "disk.vhdx").summary() == (
        "disk.vhdx: NOT consistent at write 20: 64 torn (0, 1, 2, 3, 4, ...)")


@pytest.mark.parametrize(("size", "slots", "stride"), [(64 * MIB, 64, 65536), (MIB, 16, 61440), (DATA_START + 64 * 4096, 64, 4096)])
def test_slots_lie_apart_and_within_the_disk(size: int, slots: int, stride: int) -> None:
    assert layout(size, slots) == stride
    index = Index(b"g" * 16, 0, 1, slots, stride)
    places = sorted(index.offset_of(slot) for slot in range(slots))
    assert places == [DATA_START + n * stride for n in range(slots)]
    assert places[-1] + 4096 <= size


@pytest.mark.parametrize(("size", "slots"), [(DATA_START + 63 * 4096, 64), (MIB, 48), (MIB, 1), (512, 2)])
def test_layouts_that_do_not_fit_are_refused(size: int, slots: int) -> None:
    with pytest.raises(ValueError, match="slots"):
        layout(size, slots)


def test_a_guest_keeps_the_number_of_its_disks(tmp_path: Path) -> None:
    with new_guest(tmp_path) as guest, pytest.raises(ValueError, match="number of its disks"):
        guest.switch([tmp_path / "disk.vhdx", tmp_path / "disk.vhdx"])
    with pytest.raises(ValueError, match="number of its disks"):
        Guest([])
