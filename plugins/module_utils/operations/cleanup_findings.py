# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs of ours left on a host, and what of it may be removed: a pure function of what was read.

Everything that carries the mark of a run younger than ``older_than`` is left alone: the run may still be at work.
"""
from __future__ import annotations

import ntpath
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.errors import Leftover
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import cleanup_copies, shadow_lifecycle
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.cleanup_copies import IncompleteCopy
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.shadow_facts import ShadowFacts
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.ownership import OURS, SUSPECT
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.shadow_copies import ShadowCopy
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.state import Intent
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.state_contents import Entry

REMOVABLE = "removable"


@dataclass(frozen=True)
class Finding:
    """One thing of ours. ``status``: ``removable``, or why it stays: ``too_young``, ``unknown_age``, ``suspect`` (an intent of which a
    shadow copy may have come), ``damaged`` (an intent that cannot be understood), ``foreign_content``, ``destination_missing``.

    ``key`` is the same before and after a step that renames the thing.
    """

    leftover: Leftover
    key: str
    status: str
    age: timedelta | None
    run_id: str | None = None

    @property
    def removable(self) -> bool:
        """True when it may be removed now."""
        return self.status == REMOVABLE

    @property
    def identity(self) -> tuple[str, str]:
        """Kind and key."""
        return self.leftover.kind, self.key.lower()

    def as_result(self) -> dict[str, Any]:
        """One entry of ``found``."""
        return {**self.leftover.as_result(), "status": self.status, "run_id": self.run_id,
                "age": None if self.age is None else int(self.age.total_seconds())}


@dataclass(frozen=True)
class Findings:
    """Everything of ours that was found, by kind; each list goes with what it is about."""

    shadows: tuple[tuple[Finding, ShadowCopy], ...]
    links: tuple[tuple[Finding, str], ...]
    copies: tuple[tuple[Finding, IncompleteCopy], ...]
    intents: tuple[tuple[Finding, Intent], ...]
    others: tuple[Finding, ...]

    def all(self) -> tuple[Finding, ...]:
        """In the order in which they are removed."""
        pairs: Iterable[tuple[Finding, object]] = (*self.shadows, *self.links, *self.copies, *self.intents)
        return (*(finding for finding, _unused in pairs), *self.others)

    def removable(self) -> tuple[Finding, ...]:
        """What may be removed now."""
        return tuple(finding for finding in self.all() if finding.removable)


def quiet_intents(facts: ShadowFacts, older_than: timedelta) -> tuple[Intent, ...]:
    """Intents old enough, of runs that have no younger one: a retry of the same run may be at work in the same folders."""
    busy = {intent.run_id.lower() for intent in facts.contents.intents if facts.now - intent.host_time < older_than}
    return tuple(intent for intent in facts.contents.intents if intent.run_id.lower() not in busy)


def judge(facts: ShadowFacts, copies: Sequence[IncompleteCopy], folders: Sequence[Entry], saved: Sequence[Entry],
          older_than: timedelta) -> Findings:
    """Sort everything that was read."""
    shadows = tuple(_shadow(facts, shadow, older_than) for shadow in facts.shadows if facts.verdict_on(shadow).owner == OURS)
    quiet = {intent.name for intent in quiet_intents(facts, older_than)}
    strange = {copy.intent.name for copy in copies if copy.foreign is not None}
    others = [_entry(facts, entry, "intent", f'del "{entry.path}"', older_than) for entry in facts.contents.unfinished]
    others += [_entry(facts, entry, "folder", f'rmdir "{entry.path}"', older_than) for entry in folders]
    others += [_entry(facts, entry, "file", f'del "{entry.path}"', older_than) for entry in saved]
    others += [_entry(facts, entry, "intent", f'del "{entry.path}"', older_than, "damaged") for entry in facts.contents.damaged]
    return Findings(
        shadows, tuple(_link(facts, link, older_than) for link in facts.ownership.stale_links),
        tuple((_copy(facts, copy), copy) for copy in copies),
        tuple((_intent(facts, intent, intent.name in quiet, intent.name in strange), intent) for intent in facts.contents.intents),
        tuple(others))


def _by_age(age: timedelta | None, older_than: timedelta, unknown: str) -> str:
    if age is None:
        return unknown
    return REMOVABLE if age >= older_than else "too_young"


def _shadow(facts: ShadowFacts, shadow: ShadowCopy, older_than: timedelta) -> tuple[Finding, ShadowCopy]:
    """Its run tells its age. One without an intent belongs to no run that is at work: an intent outlives the link."""
    verdict = facts.verdict_on(shadow)
    intents = facts.intents_of(verdict)
    age = facts.now - intents[0].host_time if intents else facts.age_of(shadow)
    volume = facts.volume_of(shadow)
    leftover = shadow_lifecycle.shadow_leftover(shadow.shadow_id)
    located = Leftover(leftover.kind, leftover.id, volume.root if volume is not None else shadow.volume, leftover.remove_with)
    return Finding(located, shadow.shadow_id, _by_age(age, older_than, REMOVABLE), age, verdict.run_id), shadow


def _link(facts: ShadowFacts, shadow_id: str, older_than: timedelta) -> tuple[Finding, str]:
    """A link that leads nowhere; only a run that has an intent can be at work."""
    named = [intent for intent in facts.contents.intents if (intent.shadow_id or "").lower() == shadow_id.lower()]
    age = max((facts.now - intent.host_time for intent in named), default=None)
    run_id = named[0].run_id if named else None
    return Finding(shadow_lifecycle.link_leftover(facts.folder, shadow_id), shadow_id, _by_age(age, older_than, REMOVABLE), age,
                   run_id), shadow_id


def _copy(facts: ShadowFacts, copy: IncompleteCopy) -> Finding:
    status = REMOVABLE if copy.foreign is None else "foreign_content"
    return Finding(Leftover("incomplete_copy", copy.path, ntpath.dirname(copy.path), f'rmdir /s /q "{copy.path}"'), copy.path, status,
                   facts.now - copy.intent.host_time, copy.intent.run_id)


def _intent(facts: ShadowFacts, intent: Intent, quiet: bool, strange: bool) -> Finding:
    """It goes last, and only with everything that it tells of."""
    verdicts = [verdict for verdict in facts.ownership.verdicts if intent.name in verdict.intents]
    if any(verdict.owner == SUSPECT for verdict in verdicts):
        status = "suspect"
    elif not quiet:
        status = "too_young"
    elif len(cleanup_copies.usable_folders(intent, facts.volumes)) < len(intent.folders):
        status = "destination_missing"
    else:
        status = "foreign_content" if strange else REMOVABLE
    return Finding(shadow_lifecycle.intent_leftover(facts.folder, intent), intent.stem, status, facts.now - intent.host_time,
                   intent.run_id)


def _entry(facts: ShadowFacts, entry: Entry, kind: str, remove_with: str, older_than: timedelta, status: str | None = None) -> Finding:
    age = None if entry.modified is None else facts.now - entry.modified
    return Finding(Leftover(kind, entry.path, ntpath.dirname(entry.path), remove_with), entry.path,
                   status or _by_age(age, older_than, "unknown_age"), age)
