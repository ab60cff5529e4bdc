# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volume shadow copies: frozen copies of a volume, their storage areas, and the rules by which a creation is refused (operations 5)."""
from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from simulator.clock import SimClock
from simulator.windows import errors, storage
from simulator.windows.errors import Win32Error
from simulator.windows.files import FileSystem
from simulator.windows.paths import SHADOW_DEVICE
from simulator.windows.volumes import Link, Volume

SYSTEM_PROVIDER = "{b5946137-7b9f-4925-af80-51abd60b20d5}"
CSV_PROVIDER = "{400a2ff4-5eb1-44b0-8a05-1fcac0bcf9ff}"
CSV_HELPER = "{26d02976-b909-43ad-af7e-62a4f625e372}"
FILE_SHARE_PROVIDER = "{89300202-3cec-4981-9171-19f59559e0f2}"

PERSISTENT, NO_AUTO_RELEASE, CLIENT_ACCESSIBLE, NO_WRITERS = 0x1, 0x8, 0x4, 0x10

CONTEXTS: Mapping[str, int] = {
    "ClientAccessible": 0x1D, "ClientAccessibleWriters": 0x0D, "ApplicationRollback": 0x09, "NASRollback": 0x19,
    "Backup": 0x00, "FileShareBackup": 0x10,
}
"""Context names and their bits (operations 5.2)."""

OK, ACCESS_DENIED, INVALID_ARGUMENT, VOLUME_NOT_FOUND, VOLUME_NOT_SUPPORTED, CONTEXT_UNSUPPORTED, NO_STORAGE, VOLUME_IN_USE, \
    MAXIMUM_REACHED, BUSY, VETOED, NO_PROVIDER, PROVIDER_FAILED, UNKNOWN = range(14)
"""Return values of Win32_ShadowCopy.Create (operations 5.3)."""

STATE_CREATED = 12


@dataclass(frozen=True)
class ShadowSettings:
    """What differs between hosts. Sizes are bytes, times are seconds."""

    creation_seconds: float = 3.0
    refs_supported: bool = False
    """Persistent copies of ReFS volumes (open doubt D-17)."""
    csv_from_any_node: bool = False
    """Copies of a CSV that another node coordinates: the vendor says since 2012 (operations 5.8), the codes say 4 (5.3)."""
    needs_trailing_backslash: bool = True
    max_client_accessible: int = 64
    max_per_volume: int = 512
    minimum_area: int = 320 * 1024**2
    default_share_of_volume: float = 0.1
    expose_volatile: bool = False
    """Whether diskshadow exposes copies that are not persistent. Microsoft's page says no, operations 5.9 lists both contexts."""
    exec_failure_ends: bool = True
    """Whether diskshadow ends when the script of ``exec`` fails: one version of its page says so (operations 5.9 calls it unknown)."""
    provider: str = SYSTEM_PROVIDER
    """A hardware provider's id here stands for a host whose storage product takes over."""


@dataclass
class ShadowCopy:
    """One shadow copy. ``number`` is the N of its device object."""

    shadow_id: str
    set_id: str
    number: int
    volume: Volume
    frozen: Volume
    created: datetime
    attributes: int
    provider: str
    persistent: bool
    foreign: bool = False
    exposed: str | None = None
    """The drive (``X:``) or folder where it is exposed."""
    locked: bool = False
    """Something has a file of it open: it cannot be deleted now."""

    @property
    def device_object(self) -> str:
        r"""``\\?\GLOBALROOT\Device\HarddiskVolumeShadowCopyN``, no trailing backslash."""
        return f"{SHADOW_DEVICE}{self.number}"


@dataclass
class ShadowArea:
    """Where old data of a volume is kept: the association of a volume with a volume (Win32_ShadowStorage)."""

    volume: Volume
    diff_volume: Volume
    max_space: int
    used: int = 0
    allocated: int = 0
    unmeasured: int = 0
    """Bytes written since ``used`` was measured."""


@dataclass
class ShadowService:
    """VSS of one host. ``note_change`` is told of each creation and deletion.

    ``answers`` are return values for the next calls of :meth:`create` (fault injection); None in it stands for a normal answer.
    """

    files: FileSystem
    clock: SimClock
    root: Path
    note_change: Callable[[str], None]
    settings: ShadowSettings = field(default_factory=ShadowSettings)
    copies: list[ShadowCopy] = field(default_factory=list)
    areas: list[ShadowArea] = field(default_factory=list)
    answers: list[int | None] = field(default_factory=list)
    delete_errors: list[int | None] = field(default_factory=list)
    """HRESULTs for the next deletions; None stands for a normal one."""
    on_taken: list[Callable[[ShadowCopy], None]] = field(default_factory=list)
    """Called with each new copy at its instant, before anything else happens on the host."""
    _busy_until: datetime | None = None
    _creating: bool = False
    _next_number: int = 1

    def __post_init__(self) -> None:
        self.files.on_write.append(self._written)

    # -- creation ----------------------------------------------------------------------------------------------

    def create(self, volume_text: str | None, context: str | None) -> tuple[int, str | None]:
        """Win32_ShadowCopy.Create: the return value and the id.

        The call takes ``creation_seconds`` of simulated time; what happens meanwhile (a guest's write, another requester) happens
        during it. The instant of the copy is the end of that time.
        """
        name = context or "ClientAccessible"
        attributes = next((bits for known, bits in CONTEXTS.items() if known.lower() == name.lower()), None)
        if not volume_text or not isinstance(volume_text, str):
            return INVALID_ARGUMENT, None
        if attributes is None:
            return CONTEXT_UNSUPPORTED, None
        code, volume = self._volume(volume_text)
        if volume is None:
            return code, None
        code = self._refusal(volume, attributes)
        if code != OK:
            return code, None
        with self.creating():
            self.clock.advance(self.settings.creation_seconds)
        copy = self._take(volume, attributes, self._provider(volume), foreign=False)
        self.note_change(f"create shadow copy {copy.shadow_id} of {volume.mount_path}")
        if not copy.persistent:  # its requester is this call, and it dies with the requester
            self.remove(copy)
        return OK, copy.shadow_id

    def _volume(self, text: str) -> tuple[int, Volume | None]:
        if text.startswith("\\\\") and not text.startswith("\\\\?\\"):
            return VOLUME_NOT_SUPPORTED, None
        if not text.endswith("\\"):
            if self.settings.needs_trailing_backslash:
                return INVALID_ARGUMENT, None
            text += "\\"
        volume = self.files.volume_of(text)
        return (OK, volume) if volume else (VOLUME_NOT_FOUND, None)

    @contextmanager
    def creating(self) -> Iterator[None]:
        """A creation is under way."""
        self._creating = True
        try:
            yield
        finally:
            self._creating = False

    def _refusal(self, volume: Volume, attributes: int) -> int:
        answer = self.answers.pop(0) if self.answers else None
        return self.refusal_of(volume, attributes) if answer is None else answer

    def refusal_of(self, volume: Volume, attributes: int) -> int:
        """Why no copy of a volume can be made now, as a return value of Create; 0 when one can."""
        if not self.supports(volume):
            return VOLUME_NOT_SUPPORTED
        if self.busy:
            return BUSY
        self.measure()
        mine = self.of(volume)
        accessible = sum(1 for copy in mine if copy.attributes & CLIENT_ACCESSIBLE)
        if len(mine) >= self.settings.max_per_volume or (
                attributes & CLIENT_ACCESSIBLE and accessible >= self.settings.max_client_accessible):
            return MAXIMUM_REACHED
        return OK if self._has_room(volume) else NO_STORAGE

    def supports(self, volume: Volume) -> bool:
        """Whether a persistent copy of a volume can be made here: NTFS, a CSV that this node owns, ReFS where the host does it."""
        known = volume.filesystem in ("NTFS", "CSVFS") or (volume.filesystem == "ReFS" and self.settings.refs_supported)
        here = volume.owned or (volume.filesystem == "CSVFS" and self.settings.csv_from_any_node)
        return known and here and not volume.spec.removable

    def _has_room(self, volume: Volume) -> bool:
        area = self.area_of(volume)
        if area is None:
            return volume.free_bytes >= self.settings.minimum_area
        if area.max_space < self.settings.minimum_area:
            return False
        return area.allocated > 0 or area.diff_volume.free_bytes >= self.settings.minimum_area

    def _provider(self, volume: Volume) -> str:
        if volume.filesystem == "CSVFS":
            return CSV_PROVIDER
        return self.settings.provider

    @property
    def busy(self) -> bool:
        """Another creation is under way."""
        return self._creating or (self._busy_until is not None and self.clock.now() < self._busy_until)

    def occupy(self, seconds: float) -> None:
        """Another product creates a shadow copy set for so long: every creation meanwhile is refused with 9."""
        self._busy_until = self.clock.now() + timedelta(seconds=seconds)

    def add_foreign(self, mount_path: str, *, context: str = "ApplicationRollback", provider: str = SYSTEM_PROVIDER,
                    shadow_id: str | None = None) -> ShadowCopy:
        """A shadow copy of another product, made now. Raises ValueError for an unknown volume."""
        volume = self.files.volume_of(mount_path if mount_path.endswith("\\") else mount_path + "\\")
        if volume is None:
            raise ValueError(f"no volume at {mount_path}")
        return self._take(volume, CONTEXTS[context], provider, foreign=True, shadow_id=shadow_id)

    def take_set(self, volumes: Sequence[Volume], attributes: int) -> list[ShadowCopy]:
        """Copies of several volumes at this very instant, as one set."""
        set_id = "{" + str(uuid.uuid4()).upper() + "}"
        return [self._take(volume, attributes, self._provider(volume), foreign=False, set_id=set_id) for volume in volumes]

    def _take(self, volume: Volume, attributes: int, provider: str, *, foreign: bool, shadow_id: str | None = None,
              set_id: str | None = None) -> ShadowCopy:
        self.measure()
        number, self._next_number = self._next_number, self._next_number + 1
        backing = volume.backing.freeze(self.root / f"shadow{number}")
        frozen = Volume(volume.spec, volume.guid, backing, shadow_number=number)
        self.files.shadow_volumes[number] = frozen
        identity = shadow_id or "{" + str(uuid.uuid4()).upper() + "}"
        copy = ShadowCopy(identity, set_id or "{" + str(uuid.uuid4()).upper() + "}", number, volume, frozen, self.clock.now(), attributes,
                          provider, bool(attributes & PERSISTENT), foreign)
        self.copies.append(copy)
        for listener in self.on_taken:
            listener(copy)
        if self.area_of(volume) is None:
            self.areas.append(ShadowArea(volume, volume, int(volume.capacity * self.settings.default_share_of_volume)))
        self.measure()
        return copy

    # -- looking and deleting ----------------------------------------------------------------------------------

    def of(self, volume: Volume) -> list[ShadowCopy]:
        """The copies of a volume, the oldest first."""
        return [copy for copy in self.copies if copy.volume is volume]

    def find(self, shadow_id: str) -> ShadowCopy | None:
        """The copy with this id, in any case and with or without braces."""
        wanted = shadow_id.strip("{}").lower()
        return next((copy for copy in self.copies if copy.shadow_id.strip("{}").lower() == wanted), None)

    def remove(self, copy: ShadowCopy) -> None:
        """The copy is gone, with its device and its data."""
        self.unexpose(copy)
        self.copies.remove(copy)
        del self.files.shadow_volumes[copy.number]
        storage.remove_tree(copy.frozen.root)
        self.measure()

    def restart_host(self) -> None:
        """What does not persist is lost with a restart of the host."""
        for copy in [copy for copy in self.copies if not copy.persistent]:
            self.remove(copy)
        self._busy_until = None

    # -- exposing ------------------------------------------------------------------------------------------------

    def expose(self, copy: ShadowCopy, target: str) -> None:
        """Show a copy as a drive (``X:``) or in an empty folder. Win32Error 183 (taken), 3, 145, 267."""
        letter = target.rstrip("\\").upper()
        if len(letter) == 2 and letter[1] == ":":
            if letter in self.files.exposed or any(volume.spec.letter == letter for volume in self.files.volumes):
                raise Win32Error(errors.ALREADY_EXISTS, target)
            self.files.exposed[letter] = copy.frozen
            copy.exposed = letter
            return
        place = self.files.resolve(target, follow_last=False)
        if not place.exists:
            raise Win32Error(errors.PATH_NOT_FOUND, target)
        if not place.is_directory or place.link is not None:
            raise Win32Error(errors.NOT_A_DIRECTORY, target)
        if any(place.real.iterdir()):
            raise Win32Error(errors.DIR_NOT_EMPTY, target)
        place.volume.backing.node(place.parts).link = Link("mount", copy.device_object + "\\")
        copy.exposed = place.path.text()

    def unexpose(self, copy: ShadowCopy) -> None:
        """The drive or mount point is gone; the folder stays."""
        if copy.exposed is None:
            return
        if self.files.exposed.pop(copy.exposed, None) is None and self.files.exists(copy.exposed, follow_last=False):
            place = self.files.resolve(copy.exposed, follow_last=False)
            place.volume.backing.node(place.parts).link = None
        copy.exposed = None

    # -- storage areas -----------------------------------------------------------------------------------------

    def area_of(self, volume: Volume) -> ShadowArea | None:
        """The storage area of a volume."""
        return next((area for area in self.areas if area.volume is volume), None)

    def measure(self) -> None:
        """Bring the figures of all areas up to date; where one overflows, the system deletes the oldest copies, whose ever they are."""
        for area in self.areas:
            self._measure(area)
            while self.of(area.volume) and self._overflows(area):
                self._drop_oldest(area)

    def _drop_oldest(self, area: ShadowArea) -> None:
        oldest = self.of(area.volume)[0]
        self.unexpose(oldest)
        self.copies.remove(oldest)
        del self.files.shadow_volumes[oldest.number]
        storage.remove_tree(oldest.frozen.root)
        self._measure(area)

    def _overflows(self, area: ShadowArea) -> bool:
        return area.used > area.max_space or area.allocated > self._available(area)

    def _available(self, area: ShadowArea) -> int:
        spec = area.diff_volume.spec
        added = storage.tree_bytes(area.diff_volume.root) - area.diff_volume.backing.baseline
        others = sum(other.allocated for other in self.areas if other.diff_volume is area.diff_volume and other is not area)
        return spec.free_bytes - added - others

    def _measure(self, area: ShadowArea) -> None:
        copies = self.of(area.volume)
        states = [copy.frozen.root for copy in copies] + [area.volume.root]
        area.used = sum(storage.changed_bytes(old, new) for old, new in itertools.pairwise(states))
        step = self.settings.minimum_area
        area.allocated = min(max(step, -(-area.used // step) * step), max(area.max_space, area.used)) if copies else 0
        area.unmeasured = 0
        area.diff_volume.backing.reserved = sum(other.allocated for other in self.areas if other.diff_volume is area.diff_volume)

    def _written(self, volume: Volume, count: int) -> None:
        """Measuring reads the disks, so it is done only when the area may have run over."""
        for area in self.areas:
            if area.volume.backing is not volume.backing and area.diff_volume.backing is not volume.backing:
                continue
            area.unmeasured += count
            if self.of(area.volume) and (area.used + area.unmeasured > area.max_space or volume.free_bytes == 0):
                self.measure()

    def create_area(self, volume_text: str | None, diff_text: str | None, max_space: int | None) -> int:
        """Win32_ShadowStorage.Create (operations 5.3): 0 ok, 2 argument, 3 not found, 4 not supported, 5 exists, 11 no room."""
        if not volume_text or not diff_text:
            return 2
        volume, diff_volume = self.files.volume_of(volume_text), self.files.volume_of(diff_text)
        if volume is None or diff_volume is None:
            return 3
        if volume.filesystem not in ("NTFS", "CSVFS") or diff_volume.filesystem != "NTFS":
            return 4
        if self.area_of(volume) is not None:
            return 5
        limit = diff_volume.capacity if max_space is None else max_space
        if limit < self.settings.minimum_area or diff_volume.free_bytes < self.settings.minimum_area:
            return 11
        self.areas.append(ShadowArea(volume, diff_volume, limit))
        self.note_change(f"create shadow storage for {volume.mount_path}")
        return 0
