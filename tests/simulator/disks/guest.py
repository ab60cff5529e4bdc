# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest that keeps writing, in a way that lets an image of its disks prove itself.

What a crash-consistent image may hold, and why. A disk writes a sector of 512 bytes wholly or not at all. The guest has one write
in flight at a time, and waits for each step to be on disk before it begins the next: first half of the block, second half, then
the index sector that says the write is done. So the disk at *any* instant has: every write up to the index's number N, whole; of
write N+1 perhaps the first sectors, over what the slot held before; nothing of N+2. That holds for power failures and for
snapshots taken at one instant. An image that was read bit by bit while the guest went on mixes instants: its index is older
than some blocks (writes N+2... are there), or newer (writes are missing), or a block that must be whole is half one write and
half another. :mod:`simulator.disks.proof` tells these apart. An application-consistent image has no write in flight and
an index that is marked quiesced.

A guest with several disks spreads its writes over them in turn, so that images of its disks prove that they are of *one* instant.
"""
from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from simulator.clock import SimClock, Timer
from simulator.disks import stamp
from simulator.disks.images import Image, open_image
from simulator.disks.vhdx import ParentResolver

_HALF = stamp.BLOCK // 2


class Guest:
    """The writing side of one virtual machine; a context manager.

    Disks that carry an index already are continued (a machine that was restarted, imported or restored), others get one.
    Raises ValueError when a disk is too small, VhdxError and OSError when it cannot be opened.
    """

    def __init__(self, disks: Path | Sequence[Path], seed: int | str = 0, *, parent_resolver: ParentResolver | None = None,
                 slots: int = 64) -> None:
        self._resolver = parent_resolver
        self._timer: Timer | None = None
        self._frozen = False
        self._phase = 0  # steps done of the write in flight
        self._pace: tuple[SimClock, float] | None = None
        self._images: list[Image] = []
        self._open(disks)
        try:
            self._indexes = self._read_indexes() or self._new_indexes(hashlib.sha256(str(seed).encode()).digest()[:16], slots)
            if any(index.quiesced for index in self._indexes):  # an image of a frozen guest has been started
                self.thaw()
        except BaseException:
            self.close()
            raise

    @property
    def sequence(self) -> int:
        """The number of the last write that is done; a snapshot taken now proves itself up to here."""
        return max(index.committed for index in self._indexes)

    @property
    def in_flight(self) -> int | None:
        """The number of the write that is half on disk."""
        return self.sequence + 1 if self._phase else None

    @property
    def frozen(self) -> bool:
        """Whether writes are held."""
        return self._frozen

    def step(self) -> None:
        """Do the next of the three steps of a write; nothing while frozen."""
        if self._frozen:
            return
        sequence = self.sequence + 1
        disk = sequence % len(self._images)
        index, image = self._indexes[disk], self._images[disk]
        slot = index.slot_of(sequence)
        if self._phase < 2:
            part = slice(self._phase * _HALF, (self._phase + 1) * _HALF)
            image.write(index.offset_of(slot) + part.start, stamp.block(index.guest, sequence, slot)[part])
        else:
            self._write_index(disk, replace(index, committed=sequence))
        self._phase = (self._phase + 1) % 3

    def write_some(self, count: int) -> int:
        """Do ``count`` writes to the end, a write in flight being the first of them; the number of the last. None while frozen."""
        goal = self.sequence + count
        while self.sequence < goal and not self._frozen:
            self.step()
        return self.sequence

    def run(self, clock: SimClock, writes_per_second: float) -> None:
        """Go on writing in simulated time until :meth:`stop`; between two ticks there is always a half-written block."""
        self.stop()
        self._pace = clock, writes_per_second
        pause = 1 / writes_per_second

        def tick() -> None:
            self.write_some(1)
            if self._phase == 0:
                self.step()
            self._timer = clock.call_later(pause, tick)

        self._timer = clock.call_later(pause, tick)

    def stop(self) -> None:
        """End what :meth:`run` began; a write in flight stays half-written."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def resume(self) -> None:
        """Go on as before :meth:`stop`; nothing for a guest that never ran by itself."""
        if self._pace is not None:
            self.run(*self._pace)

    def freeze(self) -> None:
        """Finish the write in flight, mark the disks quiesced and hold all writes, as a VSS freeze inside the guest does."""
        if self._phase:
            self.write_some(1)
        self._set_quiesced(True)

    def thaw(self) -> None:
        """Write on."""
        self._set_quiesced(False)

    def switch(self, disks: Path | Sequence[Path]) -> None:
        """Go on in other files that hold the same data: the new leaves after a checkpoint, or what a merge has left.

        The write in flight goes on as if nothing had happened, as in a machine that was paused for a moment.
        """
        for image in self._images:
            image.close()
        self._open(disks)

    @property
    def phase(self) -> int:
        """How many of the three steps of the write in flight are done: all there is to the guest's memory."""
        return self._phase

    def reboot(self, disks: Path | Sequence[Path], phase: int = 0) -> None:
        """Start on these disks with what they hold, writing by nobody's clock yet; on disks without a past as a new installation.

        ``phase``: a guest that was saved with its memory goes on with the write it was in; one that starts knows of none.
        """
        self.close()
        self._open(disks)
        old = self._indexes[0]
        known = self._read_indexes() or self._new_indexes(old.guest, old.slots)
        self._indexes, self._phase, self._frozen = known, phase, False
        if any(index.quiesced for index in known):
            self.thaw()

    @property
    def closed(self) -> bool:
        """Whether the machine is off."""
        return not self._images

    def close(self) -> None:
        """Stop writing and close the disks: the machine is off, at once, as by pulling the plug."""
        self.stop()
        for image in self._images:
            image.close()
        self._images = []

    def __enter__(self) -> Guest:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _open(self, disks: Path | Sequence[Path]) -> None:
        paths = [disks] if isinstance(disks, Path) else list(disks)
        if not paths or (self._images and len(paths) != len(self._images)):
            raise ValueError("a guest keeps the number of its disks, at least one")
        images: list[Image] = []
        try:
            for path in paths:
                images.append(open_image(path, self._resolver))
        except BaseException:
            for image in images:
                image.close()
            raise
        self._images = images

    def _read_indexes(self) -> list[stamp.Index]:
        """What the disks carry already; empty unless each is the one that its place among the disks asks for."""
        found = [stamp.Index.parse(image.read(stamp.INDEX_OFFSET, stamp.SECTOR)) for image in self._images]
        known = [index for place, index in enumerate(found)
                 if index is not None and (index.disk, index.disks) == (place, len(found))]
        return known if len(known) == len(found) else []

    def _new_indexes(self, guest: bytes, slots: int) -> list[stamp.Index]:
        indexes = [stamp.Index(guest, disk, len(self._images), slots, stamp.layout(image.virtual_size, slots))
                   for disk, image in enumerate(self._images)]
        for image, index in zip(self._images, indexes, strict=True):
            image.write(stamp.INDEX_OFFSET, index.pack())
        return indexes

    def _set_quiesced(self, quiesced: bool) -> None:
        for disk, index in enumerate(self._indexes):
            self._write_index(disk, replace(index, quiesced=quiesced))
        self._frozen = quiesced

    def _write_index(self, disk: int, index: stamp.Index) -> None:
        self._images[disk].write(stamp.INDEX_OFFSET, index.pack())
        self._indexes[disk] = index
