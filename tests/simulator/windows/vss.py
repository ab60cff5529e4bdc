# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""VSS as its requesters meet it: sets of shadow copies with writers, for diskshadow (operations 5.3, 5.9).

Win32_ShadowCopy.Create goes straight to :class:`simulator.windows.shadows.ShadowService`, since it never involves a writer.
"""
from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from simulator.windows import shadows
from simulator.windows.shadows import ShadowCopy, ShadowService
from simulator.windows.volumes import Volume

BAD_STATE = 0x80042301
UNEXPECTED = 0x80042302
PROVIDER_NOT_REGISTERED = 0x80042304
PROVIDER_VETO = 0x80042306
OBJECT_NOT_FOUND = 0x80042308
VOLUME_NOT_SUPPORTED = 0x8004230C
OBJECT_ALREADY_EXISTS = 0x8004230D
TOO_MANY_VOLUMES = 0x80042312
SET_IN_PROGRESS = 0x80042316
TOO_MANY_SNAPSHOTS = 0x80042317
INSUFFICIENT_STORAGE = 0x8004231F
WRITER_INCONSISTENT = 0x800423F0
WRITER_RETRYABLE = 0x800423F3
WRITER_NON_RETRYABLE = 0x800423F4
WRITER_AUTO_RECOVERY_FAILED = 0x800423FB

NAMES = {
    BAD_STATE: "VSS_E_BAD_STATE", UNEXPECTED: "VSS_E_UNEXPECTED", PROVIDER_NOT_REGISTERED: "VSS_E_PROVIDER_NOT_REGISTERED",
    PROVIDER_VETO: "VSS_E_PROVIDER_VETO", OBJECT_NOT_FOUND: "VSS_E_OBJECT_NOT_FOUND", VOLUME_NOT_SUPPORTED: "VSS_E_VOLUME_NOT_SUPPORTED",
    OBJECT_ALREADY_EXISTS: "VSS_E_OBJECT_ALREADY_EXISTS", TOO_MANY_VOLUMES: "VSS_E_MAXIMUM_NUMBER_OF_VOLUMES_REACHED",
    SET_IN_PROGRESS: "VSS_E_SNAPSHOT_SET_IN_PROGRESS", TOO_MANY_SNAPSHOTS: "VSS_E_MAXIMUM_NUMBER_OF_SNAPSHOTS_REACHED",
    INSUFFICIENT_STORAGE: "VSS_E_INSUFFICIENT_STORAGE", WRITER_INCONSISTENT: "VSS_E_WRITERERROR_INCONSISTENTSNAPSHOT",
    WRITER_RETRYABLE: "VSS_E_WRITERERROR_RETRYABLE", WRITER_NON_RETRYABLE: "VSS_E_WRITERERROR_NONRETRYABLE",
    WRITER_AUTO_RECOVERY_FAILED: "VSS_E_WRITERERROR_RECOVERY_FAILED",
}
MOST_VOLUMES = 64
"""In one set."""

_FROM_CREATE = {
    shadows.VOLUME_NOT_FOUND: OBJECT_NOT_FOUND, shadows.VOLUME_NOT_SUPPORTED: VOLUME_NOT_SUPPORTED, shadows.BUSY: SET_IN_PROGRESS,
    shadows.NO_STORAGE: INSUFFICIENT_STORAGE, shadows.MAXIMUM_REACHED: TOO_MANY_SNAPSHOTS, shadows.VETOED: PROVIDER_VETO,
    shadows.NO_PROVIDER: PROVIDER_NOT_REGISTERED,
}

STABLE, WAITING_FOR_COMPLETION, FAILED_AT_PREPARE = 1, 5, 8
"""VSS_WRITER_STATE."""


class VssError(Exception):
    """VSS refuses. ``hresult`` is a VSS_E_* code, ``message`` says what about."""

    def __init__(self, hresult: int, message: str) -> None:
        super().__init__(f"0x{hresult:08X} {message}")
        self.hresult = hresult
        self.message = message


@dataclass
class SetPlan:
    """What a requester wants: volumes, and which components stay out. ``full`` is a backup session, not a copy backup."""

    volumes: list[Volume] = field(default_factory=list)
    excluded: list[str] = field(default_factory=list)
    verified: list[str] = field(default_factory=list)
    attributes: int = 0
    full: bool = False
    auto_recovery: bool = True
    kept: dict[str, list[Any]] = field(default_factory=dict)
    """What a writer remembers of the set, by its id."""

    @property
    def writers_take_part(self) -> bool:
        """Whether the context lets writers in (operations 5.2)."""
        return not self.attributes & shadows.NO_WRITERS


class VssWriter(Protocol):
    """A writer. Every call may raise VssError, which fails the whole set."""

    writer_id: str
    name: str
    state: int
    """VSS_WRITER_STATE."""
    last_error: int

    def components(self) -> list[str]:
        """The names of all components, whether or not their files are on the volumes of a set."""

    def selected(self, plan: SetPlan) -> list[str]:
        """The components that a set processes."""

    def prepare(self, plan: SetPlan) -> None:
        """PrepareSnapshot: the last moment to say no without harm."""

    def freeze(self, plan: SetPlan) -> None:
        """Immediately before the instant of the set."""

    def thaw(self, plan: SetPlan) -> None:
        """Immediately after it, also when no copy came about."""

    def post_snapshot(self, plan: SetPlan, copies: list[ShadowCopy]) -> None:
        """The copies may still be changed."""

    def end(self, plan: SetPlan, *, complete: bool) -> None:
        """BackupComplete, or (``complete`` false) the requester went away without it."""


@dataclass
class VssService:
    """The writers of one host beside its shadow copies. ``set_errors``: HRESULTs for the next sets (None: a normal one)."""

    shadows: ShadowService
    writers: list[VssWriter] = field(default_factory=list)
    set_errors: list[int | None] = field(default_factory=list)

    def matches(self, text: str) -> Iterable[tuple[VssWriter, str | None]]:
        r"""The writers, or (writer, component) that ``{id}``, a name, or either with ``:\path\component`` means, quotes or not."""
        wanted = text.replace('"', "").strip()
        head, separator, path = wanted.partition(":\\")
        for writer in self.writers:
            if head.lower() not in (writer.writer_id.lower(), writer.name.lower()):
                continue
            if not separator:
                yield writer, None
            else:
                last = path.rstrip("\\").rpartition("\\")[2].lower()
                yield from ((writer, name) for name in writer.components() if name.lower() == last)

    def excludes(self, plan: SetPlan, writer: VssWriter, component: str) -> bool:
        """Whether the plan keeps a component out, by itself or with its whole writer."""
        return any(found is writer and (name is None or name.lower() == component.lower())
                   for text in plan.excluded for found, name in self.matches(text))

    # -- creating a set ----------------------------------------------------------------------------------------

    def create(self, plan: SetPlan) -> Generator[float, None, list[ShadowCopy]]:
        """Make all copies of a set at one instant; takes simulated time before that. Raises VssError, and then there is no copy."""
        service = self.shadows
        code = self._refusal(plan)
        if code:
            raise VssError(code, "the set cannot be created")
        writers = [writer for writer in self.writers if plan.writers_take_part and writer.selected(plan)]
        self._verify(plan, writers)
        with service.creating():
            for writer in writers:
                writer.prepare(plan)
            yield service.settings.creation_seconds
            copies = self._commit(plan, writers)
        service.note_change(f"create shadow copy set {copies[0].set_id}")
        return copies

    def _refusal(self, plan: SetPlan) -> int:
        injected = self.set_errors.pop(0) if self.set_errors else None
        if injected is not None:
            return injected
        if not plan.volumes:
            return BAD_STATE
        codes = (self.shadows.refusal_of(volume, plan.attributes) for volume in plan.volumes)
        return next((_FROM_CREATE.get(code, UNEXPECTED) for code in codes if code != shadows.OK), 0)

    def _verify(self, plan: SetPlan, writers: list[VssWriter]) -> None:
        for text in plan.verified:
            included = any(writer in writers and (name is None or name in writer.selected(plan)) for writer, name in self.matches(text))
            if not included:
                raise VssError(BAD_STATE, f"{text} is not part of the backup")

    def _commit(self, plan: SetPlan, writers: list[VssWriter]) -> list[ShadowCopy]:
        frozen: list[VssWriter] = []
        copies: list[ShadowCopy] = []
        try:
            try:
                for writer in writers:
                    frozen.append(writer)
                    writer.freeze(plan)
                copies = self.shadows.take_set(plan.volumes, plan.attributes)
            finally:
                for writer in frozen:
                    writer.thaw(plan)
            for writer in writers:
                writer.post_snapshot(plan, copies)
        except VssError:
            for copy in copies:
                self.shadows.remove(copy)
            raise
        self.shadows.measure()
        return copies
