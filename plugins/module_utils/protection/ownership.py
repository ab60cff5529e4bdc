# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose a shadow copy is (operations 5.6). Pure functions of what a host has and of what our runs wrote down before they acted.

A shadow copy carries no label. It is *ours* when one of four things says so: a link of ours is named by its ID; an intent is
named by its ID; it is exposed in the folder of a job of ours, which only administrators can do; or an intent without such a name
announced one on that volume, and exactly one new shadow copy is there that can be it - made by the system's provider, of the kind that
was announced, within two minutes of the intent. What else might have come of an intent is *suspect*: it is told and never removed by
itself. Everything else is *foreign*.

There are two kinds (operations 5.2): client-accessible and without writers, as Win32_ShadowCopy makes them; and persistent with
writers, as diskshadow makes them, which are not client-accessible.
"""
from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

OURS, SUSPECT, FOREIGN = "ours", "suspect", "foreign"
PROOF_WINDOW = timedelta(minutes=2)
"""How long after its intent a shadow copy may have been made to be provably ours."""
SUSPECT_WINDOW = timedelta(minutes=15)
"""How long after its intent a shadow copy may have been made to be suspect: a creation ends long before that, or not at all."""
_OWN_PROVIDER = "system"
_EXPOSED = re.compile(r"[A-Z]:\\ProgramData\\agentless\.hyperv\\jobs\\[0-9A-F]{8}(?:-[0-9A-F]{4}){3}-[0-9A-F]{12}_"
                      r"(?P<run>[A-Z0-9][A-Z0-9-]{0,39})(?:_[a-z]{1,12})?\\v[0-9]{2}\\?\Z", re.IGNORECASE)
"""Where diskshadow exposes a shadow copy of ours: a folder ``vNN`` in that of a job, which bears the name of its task."""


class Copy(Protocol):
    """What is looked at of a shadow copy; None: the host did not say."""

    @property
    def shadow_id(self) -> str:
        """Its ID, in any case."""

    @property
    def volume(self) -> str:
        """The device id of the volume that it shows."""

    @property
    def created(self) -> datetime | None:
        """When it was made, aware."""

    @property
    def provider(self) -> str:
        """``system``, or anything else."""

    @property
    def client_accessible(self) -> bool | None:
        """One of the flags of its context."""

    @property
    def no_writers(self) -> bool | None:
        """Another one."""

    @property
    def persistent(self) -> bool | None:
        """And another one."""

    @property
    def exposed(self) -> str | None:
        """The drive, folder or share where it can be seen; None when it is not exposed, too."""


class Announcement(Protocol):
    """What is looked at of an intent."""

    @property
    def name(self) -> str:
        """Its name, unlike that of every other one."""

    @property
    def run_id(self) -> str:
        """The run that wrote it."""

    @property
    def host_time(self) -> datetime:
        """When, by the clock of the host, aware."""

    @property
    def volume(self) -> str:
        """The device id of the volume of which a shadow copy was to be made."""

    @property
    def shadows_before(self) -> Sequence[str]:
        """The IDs that were there already."""

    @property
    def shadow_id(self) -> str | None:
        """What came of it, when the run got as far as the link."""

    @property
    def writers(self) -> bool:
        """Whether one with writers was to be made."""


@dataclass(frozen=True)
class Verdict:
    """Whose one shadow copy is. ``reason`` is a stable word; ``intents`` names those that it rests on, the newest first.

    Those of a shadow copy that is removed must go in the same run: without what they announced they would speak for the next that fits.

    Reasons: ``linked``, ``named``, ``exposed``, ``announced`` (ours); ``several_candidates``, ``not_proven`` (suspect);
    ``no_trace`` (foreign).
    """

    shadow_id: str
    owner: str
    reason: str
    linked: bool
    intents: tuple[str, ...]
    run_id: str | None


@dataclass(frozen=True)
class Ownership:
    """The verdicts in the order of the shadow copies, links that lead nowhere, and intents of which nothing is left."""

    verdicts: tuple[Verdict, ...]
    stale_links: tuple[str, ...]
    finished: tuple[str, ...]

    def of(self, shadow_id: str) -> Verdict | None:
        """The verdict on one shadow copy."""
        return next((verdict for verdict in self.verdicts if _fold(verdict.shadow_id) == _fold(shadow_id)), None)

    def owned_by(self, owner: str) -> tuple[Verdict, ...]:
        """The verdicts of one kind."""
        return tuple(verdict for verdict in self.verdicts if verdict.owner == owner)


def judge(copies: Iterable[Copy], links: Collection[str], intents: Iterable[Announcement]) -> Ownership:
    """Decide for every shadow copy of the host. ``links`` are the IDs that our links are named by.

    The order of what is given does not matter, but for that of the verdicts. Never raises.
    """
    present = {_fold(copy.shadow_id): copy for copy in copies}
    linked = {_fold(link) for link in links}
    told = sorted({intent.name: intent for intent in intents}.values(), key=_age_order, reverse=True)
    sheet = _Sheet(present, linked)
    sheet.read_names(told)
    sheet.read_marks(told)
    sheet.read_announcements(told)
    verdicts = tuple(sheet.verdict(copy) for copy in present.values())
    stale = tuple(sorted(link for link in linked if link not in present))
    speaking = {name for verdict in verdicts for name in verdict.intents}
    return Ownership(verdicts, stale, tuple(sorted(intent.name for intent in told if intent.name not in speaking)))


def could_be(copy: Copy, intent: Announcement) -> bool:
    """True when the shadow copy may have come of the intent: new, of that volume, of the right kind as far as is known, and in time."""
    if _fold(copy.shadow_id) in {_fold(known) for known in intent.shadows_before}:
        return False
    if _volume(copy.volume) != _volume(intent.volume) or _of_other_kind(copy, intent):
        return False
    return copy.created is None or timedelta(0) <= copy.created - intent.host_time <= SUSPECT_WINDOW


def proves(copy: Copy, intent: Announcement) -> bool:
    """True when nothing about the shadow copy speaks against the intent and everything that must be known is known."""
    return (could_be(copy, intent) and copy.provider == _OWN_PROVIDER and _of_kind(copy, intent)
            and copy.created is not None and copy.created - intent.host_time <= PROOF_WINDOW)


def exposed_by(place: str | None) -> str | None:
    """The run whose job exposed a shadow copy at ``place``; None when that is no place of ours."""
    found = _EXPOSED.match(place or "")
    return None if found is None else found.group("run")


def _of_kind(copy: Copy, intent: Announcement) -> bool:
    if intent.writers:
        return copy.client_accessible is False and copy.no_writers is False and copy.persistent is True
    return copy.client_accessible is True and copy.no_writers is True


def _of_other_kind(copy: Copy, intent: Announcement) -> bool:
    if intent.writers:
        return copy.client_accessible is True or copy.no_writers is True or copy.persistent is False
    return copy.client_accessible is False or copy.no_writers is False


class _Sheet:
    """What speaks for each shadow copy, by its ID in lower case: reasons, each with the intents that give it."""

    def __init__(self, present: dict[str, Copy], linked: set[str]) -> None:
        self._present = present
        self._linked = linked
        self._exposed = {shadow_id: run for shadow_id, copy in present.items() for run in [exposed_by(copy.exposed)] if run is not None}
        self._answered: set[str] = set()
        """Names of intents whose shadow copy is known."""
        self._said: dict[str, dict[str, list[Announcement]]] = {}
        for mark, marked in (("linked", self._linked & set(present)), ("exposed", set(self._exposed))):
            for shadow_id in marked:
                self._said.setdefault(shadow_id, {})[mark] = []

    def _add(self, shadow_id: str, reason: str, intent: Announcement) -> None:
        self._said.setdefault(shadow_id, {}).setdefault(reason, []).append(intent)

    def read_names(self, intents: Sequence[Announcement]) -> None:
        """Intents that are named by what came of them; they never speak for anything else."""
        for intent in intents:
            if intent.shadow_id is not None:
                self._answered.add(intent.name)
                if _fold(intent.shadow_id) in self._present:
                    self._add(_fold(intent.shadow_id), "named", intent)

    def read_marks(self, intents: Sequence[Announcement]) -> None:
        """A link or a place without such an intent: the host stopped between the two. The newest intent that fits is the one."""
        for shadow_id in sorted(self._linked & set(self._present) | set(self._exposed)):
            said = self._said[shadow_id]
            if "named" in said:
                continue
            copy, run_id = self._present[shadow_id], self._exposed.get(shadow_id)
            home = next((intent for intent in intents if intent.name not in self._answered and could_be(copy, intent)
                         and (run_id is None or intent.run_id.lower() == run_id.lower())), None)
            if home is not None:
                self._answered.add(home.name)
                self._add(shadow_id, "linked" if "linked" in said else "exposed", home)

    def read_announcements(self, intents: Sequence[Announcement]) -> None:
        """Intents of which nothing more is known than what they announced."""
        known = set(self._said)
        for intent in intents:
            if intent.name in self._answered:
                continue
            possible = {shadow_id: copy for shadow_id, copy in self._present.items() if shadow_id not in known and could_be(copy, intent)}
            near = [shadow_id for shadow_id, copy in possible.items()
                    if copy.created is None or copy.created - intent.host_time <= PROOF_WINDOW]
            if len(near) == 1 and proves(possible[near[0]], intent):
                self._add(near[0], "announced", intent)
                continue
            for shadow_id in possible:
                self._add(shadow_id, "several_candidates" if len(near) > 1 else "not_proven", intent)

    def verdict(self, copy: Copy) -> Verdict:
        """What all of it comes to."""
        shadow_id = _fold(copy.shadow_id)
        said = self._said.get(shadow_id, {})
        for owner, words in ((OURS, ("linked", "named", "exposed", "announced")), (SUSPECT, ("several_candidates", "not_proven"))):
            reason = next((word for word in words if word in said), None)
            if reason is not None:
                intents = sorted((intent for word in words for intent in said.get(word, ())), key=_age_order, reverse=True)
                run_id = None if owner != OURS else intents[0].run_id if intents else self._exposed.get(shadow_id)
                return Verdict(copy.shadow_id, owner, reason, shadow_id in self._linked, tuple(intent.name for intent in intents), run_id)
        return Verdict(copy.shadow_id, FOREIGN, "no_trace", False, (), None)


def _age_order(intent: Announcement) -> tuple[datetime, str]:
    return intent.host_time, intent.name


def _fold(shadow_id: str) -> str:
    return shadow_id.lower()


def _volume(device_id: str) -> str:
    return device_id.rstrip("\\").lower()
