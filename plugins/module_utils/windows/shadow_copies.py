# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""VSS shadow copies through ``Win32_ShadowCopy`` (operations 5.1 to 5.3, 5.6)."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.available import enumerate_available
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader, CimWriter
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.types import Instance, Reference
from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Clock, Deadline
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError, NotFound
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.system import CIMV2

CLASS = "Win32_ShadowCopy"
CONTEXT = "ClientAccessible"
_SYSTEM_PROVIDERS: Mapping[str, str] = {
    "{b5946137-7b9f-4925-af80-51abd60b20d5}": "system",
    "{400a2ff4-5eb1-44b0-8a05-1fcac0bcf9ff}": "csv",
    "{26d02976-b909-43ad-af7e-62a4f625e372}": "csv_helper",
    "{89300202-3cec-4981-9171-19f59559e0f2}": "file_share",
}


@dataclass(frozen=True)
class Refusal:
    """What a return code of Create means (operations 5.3): our code, a sentence, advice, how often and after how long to try again."""

    error_code: str
    sentence: str
    hint: str
    tries: int = 1
    pause: float = 0.0


_BUSY = 9
REFUSALS: Mapping[int, Refusal] = {
    1: Refusal("access_denied", "the account may not create shadow copies",
               "It must be a local administrator with an unfiltered token."),
    2: Refusal("vss_invalid_argument", "the volume name was refused", "Report this: the volume was named as the host named it."),
    3: Refusal("vss_volume_not_found", "the host does not know the volume", "Was the volume dismounted in between?"),
    4: Refusal("vss_volume_not_supported", "this volume cannot have shadow copies",
               "Only NTFS volumes can, and a CSV only on the node that owns it."),
    5: Refusal("vss_context_not_supported", "the provider does not support client-accessible shadow copies",
               "Use an export or a checkpoint for these VMs."),
    6: Refusal("vss_insufficient_storage", "there is no room for the shadow copy's difference area",
               "Free space on the volume, or enlarge its shadow storage (vssadmin resize shadowstorage)."),
    7: Refusal("vss_volume_in_use", "the volume is in use", "Another program holds the volume; try later.", tries=4, pause=30.0),
    8: Refusal("vss_too_many", "the volume already has the largest number of shadow copies",
               "List them and decide which product owns them; nothing foreign is deleted here."),
    _BUSY: Refusal("vss_busy", "another shadow copy is still being created on this host",
                   "Backups overlap: move the schedules apart, or raise vss_wait."),
    10: Refusal("vss_provider_veto", "the shadow copy provider refused", "See the host's Application log, sources VSS and volsnap.",
                tries=2, pause=10.0),
    11: Refusal("vss_provider_missing", "the shadow copy provider is not registered", "Check 'vssadmin list providers' on the host."),
    12: Refusal("vss_provider_failed", "the shadow copy provider failed", "See the host's Application log, sources VSS and volsnap.",
                tries=2, pause=10.0),
    13: Refusal("vss_unknown", "the shadow copy service failed without a reason",
                "See the host's Application log, sources VSS and volsnap."),
}


@dataclass(frozen=True)
class ShadowCopy:
    """One shadow copy. ``volume`` is the device id of what it shows; ``device`` is where its files are.

    ``exposed``: the drive, folder or share where it can be seen, too.
    """

    shadow_id: str
    volume: str
    device: str
    created: datetime | None
    provider: str
    client_accessible: bool | None
    no_writers: bool | None
    persistent: bool | None
    exposed: str | None = None

    def as_result(self) -> dict[str, object]:
        """The ``shadow_copy`` of a result."""
        return {"id": self.shadow_id, "volume": self.volume, "device": self.device, "provider": self.provider,
                "created": None if self.created is None else self.created.strftime("%Y-%m-%dT%H:%M:%SZ")}


@dataclass(frozen=True)
class Storage:
    """The difference area of a volume in bytes. ``largest`` None: no limit told."""

    volume: str
    used: int | None
    allocated: int | None
    largest: int | None


def from_row(row: Instance) -> ShadowCopy:
    """One row as facts. A provider outside the in-box ones is named by its id: it may behave differently (operations 5.1)."""
    provider = (row.text("ProviderID") or "").lower()
    return ShadowCopy(
        shadow_id=row.required_text("ID"), volume=row.text("VolumeName") or "", device=row.text("DeviceObject") or "",
        created=row.time("InstallDate"), provider=_SYSTEM_PROVIDERS.get(provider, provider or "unknown"),
        client_accessible=row.boolean("ClientAccessible"), no_writers=row.boolean("NoWriters"), persistent=row.boolean("Persistent"),
        exposed=row.text("ExposedName") or None)


def read_shadow_copies(reader: CimReader) -> tuple[ShadowCopy, ...]:
    """All shadow copies of the host, ours and foreign ones; one request."""
    return tuple(from_row(row) for row in reader.enumerate(CIMV2, CLASS))


def storage_from_rows(rows: Iterable[Instance]) -> tuple[Storage, ...]:
    """Difference areas by the volume whose copies they hold."""
    found = []
    for row in rows:
        volume = row.reference("Volume")
        if volume is not None:
            found.append(Storage(volume.key("DeviceID") or "", row.integer("UsedSpace"), row.integer("AllocatedSpace"),
                                 row.integer("MaxSpace")))
    return tuple(found)


def read_storage(reader: CimReader) -> tuple[Storage, ...]:
    """Difference areas of all volumes; one request."""
    return storage_from_rows(enumerate_available(reader, CIMV2, "Win32_ShadowStorage") or [])


def shadow_reference(shadow_id: str) -> Reference:
    """The address of exactly one shadow copy."""
    return Reference(CIMV2, CLASS, {"ID": shadow_id})


def create(writer: CimWriter, volume: str, *, clock: Clock, busy_wait: float, progress: Callable[[str], None],
           before_retry: Callable[[], None] = lambda: None) -> str:
    """Make a client-accessible shadow copy of the volume with the device id (or root) ``volume``; returns its ID.

    Code 9 (another creation in progress) is waited out with growing pauses up to ``busy_wait`` seconds; 7, 10 and 12 are
    tried again as operations 5.3 says, each time after ``before_retry``, which may bring an intent up to date. Raises HypervError with
    the codes of REFUSALS, OutcomeUnknown when the answer was lost.
    """
    deadline = Deadline(clock, busy_wait)
    pause, tries = 5.0, 0
    while True:
        answer = writer.invoke(Reference(CIMV2, CLASS), "Create", {"Volume": volume, "Context": CONTEXT})
        code = answer.return_value
        if code == 0:
            return answer.out.required_text("ShadowID")
        refusal = REFUSALS.get(-1 if code is None else code, REFUSALS[13])
        tries += 1
        if code == _BUSY and not deadline.expired():
            progress(f"another shadow copy is being created on the host; trying again in {pause:.0f} s")
            clock.sleep(min(pause, deadline.remaining()))
            pause = min(pause * 2, 60.0)
        elif tries < refusal.tries:
            progress(f"{refusal.sentence}; trying again in {refusal.pause:.0f} s")
            clock.sleep(refusal.pause)
        else:
            raise HypervError(f"No shadow copy of {volume} could be made: {refusal.sentence} (code {code}).",
                              error_code=refusal.error_code, hint=refusal.hint, return_value=code)
        before_retry()


def delete(writer: CimWriter, shadow_id: str, *, clock: Clock, tries: int = 3, pause: float = 5.0) -> None:
    """Delete exactly this shadow copy, then look: success is that the ID is gone (operations 5.6).

    Gone already is success. Raises the last error after ``tries`` attempts.
    """
    for attempt in range(1, tries + 1):
        if attempt > 1:
            clock.sleep(pause)
        try:
            writer.delete(shadow_reference(shadow_id))
            if not _exists(writer, shadow_id):
                return
        except NotFound:
            return
        except HypervError:
            if attempt == tries:
                raise
    raise HypervError(f"The shadow copy {shadow_id} is still there after {tries} attempts to delete it.", error_code="vss_delete_failed")


def _exists(reader: CimReader, shadow_id: str) -> bool:
    try:
        reader.get(shadow_reference(shadow_id))
    except NotFound:
        return False
    return True
