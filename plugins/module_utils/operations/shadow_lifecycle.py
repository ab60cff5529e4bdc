# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the intent to the deletion: how a shadow copy of ours comes and goes, so that it is provably ours at each moment.

Intent, shadow copy, link; the link and the name of the intent come in one step. Backwards: link, shadow copy, intent last. An intent
never outlives what it announced without saying what that was, since it would speak for the next shadow copy that fits.
"""
from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimWriter
from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Clock
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError, Leftover, NotFound, OutcomeUnknown
from ansible_collections.agentless.hyperv.plugins.module_utils.protection import ownership
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.ownership import OURS, Verdict
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import files, shadow_copies, state, state_contents, system
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.shadow_copies import ShadowCopy
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.state import Intent, StateFolder
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.volumes import Volume

_TRIES = 3
_PAUSE = 5.0
_NO_TIME = datetime.fromtimestamp(0, UTC)
"""Of an intent that is not written yet."""


@dataclass(frozen=True)
class Tools:
    """What every step needs."""

    writer: CimWriter
    clock: Clock
    progress: Callable[[str], None]
    folder: StateFolder


def announce(tools: Tools, intent: Intent) -> Intent:
    """Write an intent with what is on the host now; returns it. The state folder is there and trusted."""
    before = tuple(shadow.shadow_id for shadow in shadow_copies.read_shadow_copies(tools.writer))
    current = replace(intent, host_time=system.read_time(tools.writer), shadows_before=before)
    state.write_intent(tools.writer, tools.folder, current)
    return current


def begin(tools: Tools, intent: Intent) -> Intent:
    """The first announcement. Raises what kept it from being written; nothing of it stays, or it is in the error's ``leftovers``."""
    try:
        return announce(tools, intent)
    except HypervError as error:
        error.leftovers = (*error.leftovers, *forget(tools, [intent]))
        raise


def create(tools: Tools, run_id: str, volume: Volume, busy_wait: float, *, keep: bool = True,
           folders: Sequence[str] = ()) -> tuple[ShadowCopy, Intent]:
    """Make a shadow copy with intent and link. ``keep``: it is to stay; ``folders``: where copies out of it may be left incomplete.

    When that fails, nothing of it stays; what does is in the error's ``leftovers``. Raises OutcomeUnknown when nobody can tell
    whether a shadow copy was made: then the intent stays, and shadow copies that may have come of it are suspects.
    """
    intent = begin(tools, Intent(run_id, secrets.token_hex(4), _NO_TIME, volume.device_id, (), tuple(folders), keep))
    shadow_id: str | None = None
    begun = False

    def renew() -> None:
        nonlocal intent
        intent = announce(tools, intent)

    try:
        tools.progress(f"making a shadow copy of {volume.root}")
        try:
            shadow_id = shadow_copies.create(tools.writer, volume.device_id, clock=tools.clock, busy_wait=busy_wait,
                                             progress=tools.progress, before_retry=renew)
        except OutcomeUnknown as error:
            shadow_id = settle(tools, intent, error)
        shadow = checked(tools, shadow_id, volume)
        begun = True  # from here on a link may exist, whatever the answer says
        return shadow, state.link_shadow_copy(tools.writer, tools.folder, intent, shadow.shadow_id, shadow.device)
    except OutcomeUnknown as error:
        if shadow_id is None:
            raise
        raise _undone(tools, shadow_id, begun, intent, error) from error
    except HypervError as error:
        raise _undone(tools, shadow_id, begun, intent, error) from error


def checked(tools: Tools, shadow_id: str, volume: Volume) -> ShadowCopy:
    """The new shadow copy as the host shows it. Raises HypervError when it is of another volume or has no device."""
    shadow = shadow_copies.from_row(tools.writer.get(shadow_copies.shadow_reference(shadow_id)))
    if shadow.volume.rstrip("\\").lower() != volume.device_id.rstrip("\\").lower():
        raise HypervError(f"The shadow copy {shadow_id} shows {shadow.volume}, not {volume.device_id}.", error_code="vss_wrong_volume")
    if not shadow.device:
        raise HypervError(f"The shadow copy {shadow_id} has no device.", error_code="vss_no_device")
    return shadow


def settle(tools: Tools, intent: Intent, error: OutcomeUnknown) -> str:
    """After a creation whose answer was lost: the ID of the shadow copy that provably came of it.

    Looks several times, since a creation may still be going on. Raises OutcomeUnknown with the suspects when nothing is proven.
    """
    suspects: list[Leftover] = []
    for attempt in range(_TRIES):
        if attempt:
            tools.clock.sleep(_PAUSE)
        verdicts = _speaking(tools, intent)
        proven = [verdict for verdict in verdicts if verdict.owner == OURS]
        if len(proven) == 1:
            return proven[0].shadow_id
        suspects = [shadow_leftover(verdict.shadow_id, "suspect_shadow_copy") for verdict in verdicts]
    raise OutcomeUnknown(error.message, hint="The intent on the host tells what was to be made: look at the shadow copies of the host, "
                         "and let hyperv_cleanup remove what is provably ours.",
                         leftovers=[*suspects, intent_leftover(tools.folder, intent)]) from error


def _speaking(tools: Tools, intent: Intent) -> tuple[Verdict, ...]:
    """What the host has that may have come of one intent; nothing when the host cannot be asked."""
    try:
        shadows = shadow_copies.read_shadow_copies(tools.writer)
        contents = state_contents.read_contents(tools.writer, tools.folder)
    except HypervError as problem:
        tools.progress(f"the host could not be asked what became of the shadow copy: {problem.message}")
        return ()
    judged = ownership.judge(shadows, contents.links, contents.intents)
    return tuple(verdict for verdict in judged.verdicts if intent.name in verdict.intents)


def _undone(tools: Tools, shadow_id: str | None, begun: bool, intent: Intent, error: HypervError) -> HypervError:
    """Take back what was begun; the error with what could not be taken back. The intent stays as long as anything does."""
    left = [] if shadow_id is None else remove(tools, shadow_id, linked=begun)
    left += [intent_leftover(tools.folder, intent)] if left else forget(tools, [intent])
    return error if not left else HypervError(
        error.message, error_code=error.error_code, hint=error.hint, return_value=error.return_value, hresult=error.hresult, leftovers=left,
        details=error.details)


def retire(tools: Tools, shadow_id: str, linked: bool, intents: Sequence[Intent]) -> list[Leftover]:
    """Remove a shadow copy of which intents tell, and these intents last. Returns what is still there."""
    named = [replace(intent, shadow_id=intent.shadow_id or shadow_id) for intent in intents]
    return take_back(tools, shadow_id, linked, intents) or forget(tools, named)


def take_back(tools: Tools, shadow_id: str, linked: bool, intents: Sequence[Intent]) -> list[Leftover]:
    """Remove a shadow copy of which intents tell; the intents stay. Returns what is still there.

    Intents that only announced it are named by it first: whenever this ends early, they speak for nothing else.
    """
    for intent in intents:
        if intent.shadow_id is None:
            state.answer_intent(tools.writer, tools.folder, intent, shadow_id)
    return remove(tools, shadow_id, linked=linked)


def remove(tools: Tools, shadow_id: str, *, linked: bool) -> list[Leftover]:
    """Unlink, then delete exactly this shadow copy, then look (operations 5.6). Returns what is still there."""
    left = []
    if linked and not unlink(tools, shadow_id):
        left.append(link_leftover(tools.folder, shadow_id))
    try:
        shadow_copies.delete(tools.writer, shadow_id, clock=tools.clock)
    except HypervError:
        if not _gone(tools, shadow_id):
            left.append(shadow_leftover(shadow_id))
    return left


def _gone(tools: Tools, shadow_id: str) -> bool:
    """True when the host says so; an answer to a deletion may have been lost."""
    try:
        tools.writer.get(shadow_copies.shadow_reference(shadow_id))
    except NotFound:
        return True
    except HypervError:
        return False
    return False


def unlink(tools: Tools, shadow_id: str) -> bool:
    """Remove the link of a shadow copy; taking it away twice does no harm. True when it is gone."""
    for attempt in range(_TRIES):
        if attempt:
            tools.clock.sleep(_PAUSE)
        if _rmdir(tools, shadow_id) or _has_no_link(tools, shadow_id):
            return True
    return False


def _rmdir(tools: Tools, shadow_id: str) -> bool:
    try:
        files.remove_link(tools.writer, tools.folder.link_for(shadow_id))
    except HypervError:
        return False
    return True


def _has_no_link(tools: Tools, shadow_id: str) -> bool:
    """True when the host says so: what made the removal fail does not matter then."""
    try:
        return shadow_id.lower() not in files.link_names(tools.writer, tools.folder.links)
    except HypervError:
        return False


def forget(tools: Tools, intents: Sequence[Intent]) -> list[Leftover]:
    """Take intents away of which nothing is left. Returns those that are still there."""
    left = []
    for intent in intents:
        for attempt in range(_TRIES):
            if attempt:
                tools.clock.sleep(_PAUSE)
            try:
                state.remove_intent(tools.writer, tools.folder, intent)
                break
            except HypervError as error:
                tools.progress(f"the intent {intent.name} is still there: {error.message}")
        else:
            left.append(intent_leftover(tools.folder, intent))
    return left


def shadow_leftover(shadow_id: str, kind: str = "shadow_copy") -> Leftover:
    """A shadow copy that stays."""
    return Leftover(kind, shadow_id, "this host", f"vssadmin delete shadows /shadow={shadow_id}")


def link_leftover(folder: StateFolder, shadow_id: str) -> Leftover:
    """A link that stays."""
    link = folder.link_for(shadow_id)
    return Leftover("link", link, folder.links, f'rmdir "{link}"')


def intent_leftover(folder: StateFolder, intent: Intent) -> Leftover:
    """An intent that stays."""
    path = folder.intent_for(intent.name)
    return Leftover("intent", path, folder.intents, f'del "{path}"')
