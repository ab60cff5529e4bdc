# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``diskshadow /s SCRIPT``: shadow copy sets with writers, on Server editions only (operations 5.9).

Script lines: ``reset``, ``set context|metadata|verbose|option``, ``begin backup``, ``writer verify|exclude``, ``add volume|alias``,
``create``, ``expose``, ``exec``, ``unexpose``, ``delete shadows``, ``end backup``, ``exit``. The first line that fails ends the script.

Inferred: the exit code 1 of a script that failed, the form of its error message, the context without ``set context`` (volatile), the
place of the metadata file when none is set, and that the process of a requester that dies releases its volatile copies at once. The
content of the metadata file is not imitated. From Microsoft's pages: what is exposed must be persistent, and a failing ``exec`` ends
diskshadow; both can be changed in :class:`simulator.windows.shadows.ShadowSettings`.
"""
from __future__ import annotations

import re
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from simulator.windows import cmdline, errors, shadows, vss
from simulator.windows.cmdparse import expand_percent, split_arguments
from simulator.windows.errors import Win32Error
from simulator.windows.programs.base import Context, NeedInput, NotSimulated, Steps
from simulator.windows.shadows import ShadowCopy
from simulator.windows.volumes import Volume
from simulator.windows.vss import SetPlan, VssError, VssService

FAILED = 1

_CONTEXTS = {
    ("clientaccessible",): "ClientAccessible", ("persistent",): "ApplicationRollback", ("persistent", "nowriters"): "NASRollback",
    ("volatile",): "Backup", ("volatile", "nowriters"): "FileShareBackup"}
_PLAIN_OPTIONS = frozenset({"differential", "noautorecover"})
_OTHER_OPTIONS = frozenset({"plex", "transportable", "rollbackrecover", "txfrecover"})
_LATER = frozenset({"load", "import", "mask", "break", "revert", "simulate", "list", "help", "?"})

_Wait: TypeAlias = Generator[float | NeedInput, None, None]


class ScriptError(Exception):
    """A line cannot be carried out: wrong syntax, or something that is not there."""


class Leave(Exception):
    """``exit``."""


def run(context: Context, tail: str) -> Steps:
    """The program."""
    yield from ()
    words = split_arguments(tail)
    if len(words) != 2 or words[0].lower() not in ("/s", "-s"):
        raise NotSimulated("diskshadow without /s and a script, or with a log")
    assert context.vss is not None
    context.out("Microsoft DiskShadow version 1.0")
    context.out(f"On computer:  {context.facts.name.upper()[:15]}")
    context.out("")
    if not context.token.elevated:
        context.out(context.error_text(errors.ACCESS_DENIED))
        return FAILED
    try:
        lines = _decode(context, context.files.read_file(words[1], context.token, context.directory)).splitlines()
    except Win32Error as refused:
        context.out(context.error_text(refused.code))
        return FAILED
    session = _Session(context, context.vss)
    try:
        for line in lines:
            yield from session.line(line)
    except Leave:
        return 0
    except VssError as refused:
        _say(context, refused.hresult, vss.NAMES.get(refused.hresult, refused.message))
        return FAILED
    except Win32Error as refused:
        _say(context, 0x80070000 | refused.code, context.error_text(refused.code))
        return FAILED
    except ScriptError as wrong:
        context.out(str(wrong))
        return FAILED
    finally:
        session.close()
    return 0


def _decode(context: Context, data: bytes) -> str:
    if data.startswith(b"\xff\xfe"):
        return data[2:].decode("utf-16-le", "replace")
    return data.decode("cp932" if context.facts.locale == "ja-JP" else "cp1252", "replace")


def _say(context: Context, hresult: int, text: str) -> None:
    context.out("")
    context.out("The last operation failed.")
    context.out(f"        - Returned HRESULT = {hresult:x}")
    context.out(f"        - Error text: {text}")


@dataclass
class _Session:
    """One requester."""

    context: Context
    service: VssService
    plan: SetPlan = field(default_factory=SetPlan)
    aliases: list[str | None] = field(default_factory=list)
    """One for each volume of the plan."""
    variables: dict[str, str] = field(default_factory=dict)
    metadata: str | None = None
    copies: list[ShadowCopy] = field(default_factory=list)
    open_plan: SetPlan | None = None
    """Of the set whose writers still wait for BackupComplete."""

    # -- lines -------------------------------------------------------------------------------------------------

    def line(self, raw: str) -> _Wait:
        text = expand_percent(raw.strip(), self._lookup)
        if not text or text.startswith("#") or re.match(r"rem\b", text, re.IGNORECASE):
            return
        self.context.out(f"-> {text}")
        words = text.split()
        verb, rest = words[0].lower(), words[1:]
        if verb == "create" and not rest:
            yield from self._create()
        elif verb == "exec" and rest:
            yield from self._exec(text[len(words[0]):].strip())
        else:
            self._quick(verb, rest, text)

    def _quick(self, verb: str, rest: list[str], text: str) -> None:
        """What takes no time."""
        verbs: dict[str, Callable[[list[str], str], None]] = {
            "set": self._set, "begin": self._begin, "end": self._end, "writer": self._writer, "add": self._add, "expose": self._expose,
            "unexpose": self._unexpose, "delete": self._delete}
        if verb == "exit" and not rest:
            raise Leave
        if verb == "reset" and not rest:
            self.close()
            self.plan, self.aliases, self.metadata = SetPlan(), [], None
        elif verb in verbs:
            verbs[verb](rest, text)
        elif verb in _LATER:
            raise NotSimulated(f"diskshadow {verb}")
        else:
            raise ScriptError(f"{text}: not a command")

    def _lookup(self, name: str) -> str | None:
        return next((value for key, value in self.variables.items() if key.lower() == name.lower()), None) or self.context.variable(name)

    def _set(self, rest: list[str], text: str) -> None:
        what, values = (rest[0].lower() if rest else ""), [word.lower() for word in rest[1:]]
        if what == "context" and tuple(values) in _CONTEXTS:
            self.plan.attributes = shadows.CONTEXTS[_CONTEXTS[tuple(values)]]
        elif what == "metadata" and values:
            self.metadata = text.split(None, 2)[2].strip('"')
        elif what == "verbose" and values in (["on"], ["off"]):
            return
        elif what == "option" and values and set(values) <= _PLAIN_OPTIONS:
            self.plan.auto_recovery = "noautorecover" not in values
        elif what == "option" and set(values) & _OTHER_OPTIONS:
            raise NotSimulated(f"diskshadow set option {' '.join(values)}")
        else:
            raise ScriptError(f"{text}: wrong parameters")

    def _begin(self, rest: list[str], text: str) -> None:
        if [word.lower() for word in rest] != ["backup"]:
            raise NotSimulated("diskshadow begin restore")
        self.plan.full = True

    def _end(self, rest: list[str], text: str) -> None:
        if [word.lower() for word in rest] != ["backup"]:
            raise NotSimulated("diskshadow end restore")
        if not self.plan.full:
            raise VssError(vss.BAD_STATE, "no backup was begun")
        self._finish(complete=True)
        self.plan.full = False

    def _writer(self, rest: list[str], text: str) -> None:
        if len(rest) < 2 or rest[0].lower() not in ("verify", "exclude"):
            raise ScriptError(f"{text}: wrong parameters")
        named = text.split(None, 2)[2]
        if not list(self.service.matches(named)):
            raise VssError(vss.OBJECT_NOT_FOUND, named)
        (self.plan.verified if rest[0].lower() == "verify" else self.plan.excluded).append(named)

    def _add(self, rest: list[str], text: str) -> None:
        words = [word.lower() for word in rest]
        if words[:1] == ["alias"] and len(rest) == 3:
            self.variables[rest[1]] = rest[2]
            return
        match = re.match(r'add\s+volume\s+("[^"]+"|\S+)(?:\s+alias\s+(\w+))?(?:\s+provider\s+(\S+))?\Z', text, re.IGNORECASE)
        if match is None:
            raise ScriptError(f"{text}: wrong parameters")
        if match.group(3):
            raise NotSimulated("diskshadow add volume with a provider")
        volume = self._volume(match.group(1).strip('"'))
        if volume in self.plan.volumes:
            raise VssError(vss.OBJECT_ALREADY_EXISTS, match.group(1))
        if len(self.plan.volumes) >= vss.MOST_VOLUMES:
            raise VssError(vss.TOO_MANY_VOLUMES, match.group(1))
        if not self.service.shadows.supports(volume):
            raise VssError(vss.VOLUME_NOT_SUPPORTED, match.group(1))
        self.plan.volumes.append(volume)
        self.aliases.append(match.group(2))

    def _volume(self, text: str) -> Volume:
        if text.startswith("\\\\") and not text.startswith("\\\\?\\"):
            raise NotSimulated("shadow copies of shares")
        volume = self.context.files.volume_of(text if text.endswith("\\") else text + "\\")
        if volume is None:
            raise VssError(vss.OBJECT_NOT_FOUND, text)
        return volume

    # -- the set -----------------------------------------------------------------------------------------------

    def _create(self) -> _Wait:
        if self.open_plan is not None:
            raise VssError(vss.BAD_STATE, "the set of this session exists already")
        self.copies += yield from self.service.create(self.plan)
        self.open_plan = replace(self.plan)
        made = self.copies[-len(self.plan.volumes):]
        for number, (copy, alias) in enumerate(zip(made, self.aliases, strict=True), 1):
            self._set_alias(alias or f"VSS_SHADOW_{number}", copy.shadow_id, "shadow")
        self._set_alias("VSS_SHADOW_SET", made[0].set_id, "shadow set")
        self.context.out("")
        for copy in made:
            self.context.out(f"        * Shadow copy ID = {copy.shadow_id}")
            self.context.out(f"                - Shadow copy set: {copy.set_id}")
            self.context.out(f"                - Original volume name: {copy.volume.device_id} [{copy.volume.mount_path}]")
            self.context.out(f"                - Shadow copy device name: {copy.device_object}")
        self.context.out(f"Number of shadow copies listed: {len(made)}")
        self._write_metadata()

    def _set_alias(self, name: str, identity: str, what: str) -> None:
        self.variables[name] = identity
        self.context.out(f"Alias {name} for {what} ID {identity} set as environment variable.")

    def _write_metadata(self) -> None:
        stamp = self.context.clock.now().strftime("%Y-%m-%d_%H-%M-%S")
        path = self.metadata or f"{stamp}_{self.context.facts.name.upper()[:15]}.cab"
        identities = " ".join(copy.shadow_id for copy in self.copies)
        self.context.files.write_file(path, b"MSCF" + identities.encode(), self.context.token, current=self.context.directory)

    def _copy(self, text: str) -> ShadowCopy:
        copy = self.service.shadows.find(text) if text else None
        if copy is None:
            raise VssError(vss.OBJECT_NOT_FOUND, text)
        return copy

    def _expose(self, rest: list[str], text: str) -> None:
        parts = text.split(None, 2)
        if len(parts) != 3:
            raise ScriptError(f"{text}: wrong parameters")
        copy, target = self._copy(parts[1]), parts[2].strip('"')
        settings = self.service.shadows.settings
        if target.startswith("\\\\") or not re.match(r"[A-Za-z]:", target):
            raise NotSimulated("exposing a shadow copy as a share")
        exposable = copy.persistent and not copy.attributes & shadows.CLIENT_ACCESSIBLE
        if not exposable and not (settings.expose_volatile and not copy.persistent):
            raise VssError(vss.BAD_STATE, "only persistent shadow copies can be exposed locally")
        if copy.exposed is not None:
            raise VssError(vss.BAD_STATE, "exposed already")
        self.service.shadows.expose(copy, target)
        self.context.files.note(f"expose shadow copy {copy.shadow_id}")

    def _unexpose(self, rest: list[str], text: str) -> None:
        wanted = text.split(None, 1)[1].strip('"').rstrip("\\").lower() if rest else ""
        known = [copy for copy in self.service.shadows.copies if copy.exposed is not None]
        found = [copy for copy in known if wanted in (str(copy.exposed).rstrip("\\").lower(), copy.shadow_id.lower())]
        if not found:
            raise VssError(vss.OBJECT_NOT_FOUND, text)
        self.service.shadows.unexpose(found[0])
        self.context.files.note(f"unexpose shadow copy {found[0].shadow_id}")

    def _delete(self, rest: list[str], text: str) -> None:
        words = [word.lower() for word in rest]
        if words[:1] != ["shadows"] or len(words) not in (2, 3):
            raise ScriptError(f"{text}: wrong parameters")
        found = self._chosen(words[1], rest[2] if len(rest) == 3 else "")
        if not found:
            raise VssError(vss.OBJECT_NOT_FOUND, text)
        for copy in found:
            self.service.shadows.remove(copy)
            self.context.files.note(f"delete shadow copy {copy.shadow_id}")
        self.context.out(f"Number of shadow copies deleted: {len(found)}")

    def _chosen(self, how: str, value: str) -> list[ShadowCopy]:
        copies = self.service.shadows.copies
        if how == "all":
            return list(copies)
        if how in ("volume", "oldest"):
            found = self.service.shadows.of(self._volume(value))
            return found[:1] if how == "oldest" else found
        if how in ("set", "id"):
            return [copy for copy in copies if value.lower() == (copy.set_id if how == "set" else copy.shadow_id).lower()]
        if how == "exposed":
            return [copy for copy in copies if copy.exposed is not None and copy.exposed.lower() == value.rstrip("\\").lower()]
        raise ScriptError(f"delete shadows {how}: wrong parameters")

    # -- scripts and the end -----------------------------------------------------------------------------------

    def _exec(self, text: str) -> _Wait:
        """Run a program or a cmd script with the aliases in its environment."""
        child = replace(self.context, environment={**self.context.environment, **self.variables})
        code = yield from cmdline.run_line(child, text)
        self.context.out(f"{text} returned {code}")
        if code and self.service.shadows.settings.exec_failure_ends:
            raise ScriptError(f"The script {text} failed: {code}")

    def _finish(self, *, complete: bool) -> None:
        plan, self.open_plan = self.open_plan, None
        if plan is not None and plan.writers_take_part:
            for writer in self.service.writers:
                if writer.writer_id in plan.kept:
                    writer.end(plan, complete=complete)

    def close(self) -> None:
        """The requester goes, and with it what is not persistent."""
        self._finish(complete=False)
        for copy in self.copies:
            if not copy.persistent and copy in self.service.shadows.copies:
                self.service.shadows.remove(copy)
        self.copies = []
