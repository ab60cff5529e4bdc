# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shadow copies of a host with their owners: read once, the same for every module that deals with them."""
from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.module import Call
from ansible_collections.agentless.hyperv.plugins.module_utils.protection import ownership
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.freshness import parse_age
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.ownership import FOREIGN, OURS, SUSPECT, Ownership, Verdict
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import shadow_copies, state, state_contents, system, volumes
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.shadow_copies import ShadowCopy, Storage
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.state import Intent, StateFolder
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.state_contents import Contents
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.system import SKEW_WARNING
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.volumes import Volume


@dataclass(frozen=True)
class ShadowFacts:
    """What a host has at one time, ``now`` by its own clock. ``storage`` is empty when it was not asked for."""

    now: datetime
    folder: StateFolder
    shadows: tuple[ShadowCopy, ...]
    volumes: tuple[Volume, ...]
    storage: tuple[Storage, ...]
    contents: Contents
    ownership: Ownership

    def volume_of(self, shadow: ShadowCopy) -> Volume | None:
        """The volume that a shadow copy shows, None when the host does not list it."""
        return next((volume for volume in self.volumes if same_volume(volume.device_id, shadow.volume)), None)

    def verdict_on(self, shadow: ShadowCopy) -> Verdict:
        """Whose a shadow copy of these facts is."""
        verdict = self.ownership.of(shadow.shadow_id)
        return verdict or Verdict(shadow.shadow_id, FOREIGN, "no_trace", False, (), None)

    def intents_of(self, verdict: Verdict) -> tuple[Intent, ...]:
        """The intents that a verdict rests on, the newest first."""
        return tuple(intent for name in verdict.intents if (intent := self.contents.intent(name)) is not None)

    def age_of(self, shadow: ShadowCopy) -> timedelta | None:
        """How old it is, by the clock of the host; None when the host does not say when it was made."""
        return None if shadow.created is None else self.now - shadow.created


def read(reader: CimReader, *, storage: bool) -> ShadowFacts:
    """At most six requests (seven with ``storage``), and one program when there are intents."""
    now, drive = system.read_time_and_drive(reader)
    folder = state.state_folder(drive)
    shadows = shadow_copies.read_shadow_copies(reader)
    areas = shadow_copies.read_storage(reader) if storage else ()
    contents = state_contents.read_contents(reader, folder)
    return judged(ShadowFacts(now, folder, shadows, volumes.read_volumes(reader), areas, contents, Ownership((), (), ())))


def judged(facts: ShadowFacts) -> ShadowFacts:
    """The facts with the owners that follow from them."""
    return replace(facts, ownership=ownership.judge(facts.shadows, facts.contents.links, facts.contents.intents))


def same_volume(left: str, right: str) -> bool:
    """True when two device ids name one volume."""
    return left.rstrip("\\").lower() == right.rstrip("\\").lower()


def entry(facts: ShadowFacts, shadow: ShadowCopy) -> dict[str, Any]:
    """One shadow copy as the modules return it."""
    verdict, volume, age = facts.verdict_on(shadow), facts.volume_of(shadow), facts.age_of(shadow)
    area = next((area for area in facts.storage if same_volume(area.volume, shadow.volume)), None)
    return {
        **shadow.as_result(), "path": volume.root if volume is not None else None,
        "age": None if age is None else int(age.total_seconds()),
        "owner": verdict.owner, "reason": verdict.reason, "run_id": verdict.run_id, "linked": verdict.linked,
        "persistent": shadow.persistent, "client_accessible": shadow.client_accessible, "no_writers": shadow.no_writers,
        "storage": None if area is None else {"used": area.used, "allocated": area.allocated, "largest": area.largest},
    }


def entries(facts: ShadowFacts, volume: Volume | None = None) -> list[dict[str, Any]]:
    """All shadow copies, or those of one volume, the oldest first; those without a time last."""
    chosen = [shadow for shadow in facts.shadows if volume is None or same_volume(shadow.volume, volume.device_id)]
    chosen.sort(key=lambda shadow: (shadow.created is None, shadow.created or facts.now, shadow.shadow_id))
    return [entry(facts, shadow) for shadow in chosen]


def counts(listed: list[dict[str, Any]]) -> dict[str, int]:
    """How many there are of each owner."""
    return {owner: sum(1 for one in listed if one["owner"] == owner) for owner in (OURS, SUSPECT, FOREIGN)}


def find_volume(facts: ShadowFacts, path: str) -> Volume:
    """The volume that is mounted at ``path``, or that has it as its device id. Raises HypervError ``volume_not_found``."""
    wanted = volumes.plain_path(path).rstrip("\\").lower()
    for volume in facts.volumes:
        if wanted and wanted in (volume.root.rstrip("\\").lower(), volume.device_id.rstrip("\\").lower()):
            return volume
    place = volumes.locate(path, facts.volumes)
    hint = f"It lies on {place.volume.root}." if place.volume is not None else \
        "Volumes of this host: " + ", ".join(volume.root for volume in facts.volumes)
    raise HypervError(f"This host has no volume that is mounted at {path!r}.", error_code="volume_not_found", hint=hint)


def age_option(call: Call, name: str) -> timedelta | None:
    """An option that is an age, None when it is not given. Raises HypervError ``invalid_max_age`` or ``invalid_older_than``."""
    text = call.params[name]
    if not text:
        return None
    try:
        return parse_age(text)
    except ValueError as error:
        raise HypervError(
            f"{name}: {error}", error_code="invalid_max_age" if name == "max_age" else "invalid_older_than") from error


def warn_about_clock(call: Call, facts: ShadowFacts) -> None:
    """A warning when the clocks differ by more than five minutes: ages are those of the host."""
    seconds = (facts.now - call.clock.utcnow()).total_seconds()
    if abs(seconds) > SKEW_WARNING.total_seconds():
        call.warn(f"The clock of {call.host.name} is {abs(seconds):.0f} s {'ahead of' if seconds > 0 else 'behind'} the controller's.")
