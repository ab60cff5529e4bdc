# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection's folder on a host: links to shadow copies and intents live there (ARCHITECTURE, *State folder*).

It lies below ProgramData, where every local user may make folders. So it is made closed, and it is trusted only when it is
no reparse point, belongs to Administrators, and its access list admits exactly them and SYSTEM. None of that depends on the language.
"""
from __future__ import annotations

import contextlib
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimWriter
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import files
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.programs import (
    Command,
    Programs,
    said,
    writing_programs,
)

FOLDER = "agentless.hyperv"
LINKS = "s"
INTENTS = "intents"
JOBS = "jobs"
LEASES = "leases"
ACTION = "create_shadow_copy"
NO_VOLUME = "none"
"""The volume of an intent that announces incomplete copies and no shadow copy."""
CLAIM = "0" * 8
"""The token of the one intent that tells what its run, which has its lease, is going to copy."""
_TEMPORARY = ".tmp"

_ICACLS = "%SystemRoot%\\System32\\icacls.exe "
_PARTS = tuple(f'"%AGH_{name}%"' for name in ("LINKS", "INTENTS", "JOBS", "LEASES"))
_HAS_PARTS = " ".join(f"if exist {part}" for part in _PARTS)
_OWN = f'{_ICACLS}"%AGH_NEW%" /setowner *S-1-5-32-544 /Q >nul'
_ALL_LINKS = 'dir /B /AL "%AGH_STATE%*"'
_MARKS = ("exists", "owners", "list", "links", "parts")
# One line that looks at everything in this order, a mark before each part but the first. Owners: those of the folder and of one that
# Administrators own for certain; what stands before their names must be the same in any language. The saved list may be UTF-16: the empty
# line lets the next mark begin one. Each file and folder of it is gone when the line ends, whatever becomes of the connection.
LOOK = Command(
    f'{_ALL_LINKS} & echo [exists]& (if exist "%AGH_STATE%" echo yes)'
    f' & echo [owners]& (if exist "%AGH_STATE%" mkdir "%AGH_NEW%" && {_OWN}) & dir /Q /AD "%AGH_STATE%*" & rmdir "%AGH_NEW%"'
    f' & echo [list]& ({_ICACLS}"%AGH_STATE%" /save "%AGH_SAVED%" /Q >nul && type "%AGH_SAVED%") & del /F /Q "%AGH_SAVED%"'
    f' & echo.& echo [links]& {_ALL_LINKS} & echo [parts]& ({_HAS_PARTS} echo yes)')
# the mark says that it is closed; behind it stands what somebody put into it before
MAKE = Command(f'mkdir "%AGH_NEW%" && {_ICACLS}"%AGH_NEW%" /inheritance:r /grant:r *S-1-5-18:(OI)(CI)F *S-1-5-32-544:(OI)(CI)F /Q >nul'
               f' && {_OWN} && (echo [made]& dir /B /A "%AGH_NEW%")')
# ren fails when the name is taken, where move would put the folder inside
NAME = Command(f'ren "%AGH_NEW%" {FOLDER}')
DROP = Command('rmdir "%AGH_NEW%" || exit 3')
# del calls a file that it could not remove no failure at all
REMOVE_INTENT = Command('del /F /Q "%AGH_STEM%.*" & if exist "%AGH_STEM%.*" exit 3')
# one line, so that the intent says which shadow copy it came to as soon as there is a link
LINK = Command('mklink /D "%AGH_LINK%" "%AGH_TARGET%" && ren "%AGH_INTENT%" "%AGH_ANSWERED%"')
LINK_ONLY = Command('mklink /D "%AGH_LINK%" "%AGH_TARGET%"')
ANSWER = Command('ren "%AGH_INTENT%" "%AGH_ANSWERED%"')
MAKE_PARTS = Command(f"mkdir {' '.join(_PARTS)}")

_TRUSTED = {"SY", "BA", "S-1-5-18", "S-1-5-32-544"}
_FULL = {"FA", "0X1F01FF"}
_ACE = re.compile(r"\(([^()]*)\)")
_OWNER = re.compile(r"O:(S-[0-9-]+|[A-Z]{2})")
_MARK = re.compile(rb"(?:\A|(?<=\n))\[(" + "|".join(_MARKS).encode("ascii") + rb")\][ \t]*\r?\n")
_MADE = "[made]"
_DACL = re.compile(r"D:([A-Z]*)((?:\([^()]*\))*)")
_SHADOW_ID = re.compile(r"\{[0-9A-F]{8}(?:-[0-9A-F]{4}){3}-[0-9A-F]{12}\}\Z", re.IGNORECASE)
_INTENT_FILE = re.compile(r"(?P<run>[A-Z0-9][A-Z0-9-]{0,39})_(?P<token>[0-9A-F]{8})(?:\.(?P<shadow>\{[0-9A-F-]{36}\}))?\.json\Z",
                          re.IGNORECASE)
_TIME = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True)
class StateFolder:
    """The paths of the collection on one host."""

    path: str

    @property
    def links(self) -> str:
        """Where links to shadow copies stand, named by the ID of the shadow copy."""
        return f"{self.path}\\{LINKS}"

    @property
    def intents(self) -> str:
        """Where intents stand."""
        return f"{self.path}\\{INTENTS}"

    @property
    def jobs(self) -> str:
        """Where jobs lie, each in a folder of its own."""
        return f"{self.path}\\{JOBS}"

    @property
    def leases(self) -> str:
        """Where the leases of runs stand."""
        return f"{self.path}\\{LEASES}"

    def link_for(self, shadow_id: str) -> str:
        """The link of one shadow copy."""
        return f"{self.links}\\{shadow_id}"

    def intent_for(self, name: str) -> str:
        """One intent, by its name."""
        return f"{self.intents}\\{name}.json"


@dataclass(frozen=True)
class Intent:
    """What a run is about to create that cannot carry its mark at birth: so that a later run can tell what is ours.

    ``token`` tells the intents of one run apart, also those of a retry: none but a CLAIM takes the place of another. ``folders`` are those
    in which the run may leave an incomplete copy, named ``<UTC time>_<run id>``. ``keep``: the shadow copy itself is what the run is
    for. ``writers``: it is made by diskshadow with writers, and is of another kind than those of Win32_ShadowCopy. ``shadow_id``: what came
    of it, once there is a link or it is exposed; it is part of the file's name and not of its content. ``note``: what a later run has
    to know to go on with work that is no task, such as an export; short, and understood by whoever wrote it.
    """

    run_id: str
    token: str
    host_time: datetime
    volume: str
    shadows_before: tuple[str, ...]
    folders: tuple[str, ...] = ()
    keep: bool = False
    shadow_id: str | None = None
    writers: bool = False
    note: str = ""

    @property
    def stem(self) -> str:
        """What the names of all its files begin with, up to a dot."""
        return f"{self.run_id}_{self.token}"

    @property
    def name(self) -> str:
        """The name of its file, without the ending."""
        return self.stem if self.shadow_id is None else f"{self.stem}.{self.shadow_id}"

    def dump(self) -> bytes:
        """ASCII JSON, one value a line."""
        data = {"format": 1, "action": ACTION, "run_id": self.run_id, "host_time": self.host_time.strftime(_TIME),
                "volume": self.volume, "shadows_before": list(self.shadows_before), "folders": list(self.folders), "keep": self.keep,
                "writers": self.writers, **({"note": self.note} if self.note else {})}
        return (json.dumps(data, ensure_ascii=True, indent=1) + "\n").encode("ascii").replace(b"\n", b"\r\n")


def is_shadow_id(text: str) -> bool:
    """True for a GUID in braces, as shadow copies and their links are named."""
    return bool(_SHADOW_ID.match(text))


def parse_intent(file_name: str, text: str) -> Intent:
    """An intent out of the name and the text of its file. Raises ValueError with what is wrong; unknown keys do not matter.

    Files without ``folders``, ``keep`` and ``writers`` are older ones; a ``note`` has only who needs one.
    """
    name = _INTENT_FILE.match(file_name)
    if name is None:
        raise ValueError("the name is not that of an intent")
    try:
        data = json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(data, dict) or data.get("format") != 1 or data.get("action") != ACTION:
        raise ValueError("not an intent of a known kind")
    run_id = _text(data, "run_id")
    if run_id.lower() != name.group("run").lower():
        raise ValueError("the run is not that of the name")
    shadow_id = name.group("shadow")
    if shadow_id is not None and not is_shadow_id(shadow_id):
        raise ValueError("the name does not end with a shadow copy")
    return Intent(run_id, name.group("token"), datetime.strptime(_text(data, "host_time"), _TIME).replace(tzinfo=UTC),
                  _text(data, "volume"), _texts(data, "shadows_before"), _texts(data, "folders") if "folders" in data else (),
                  data.get("keep") is True, shadow_id, data.get("writers") is True, _text(data, "note") if "note" in data else "")


def _text(data: Mapping[str, Any], key: str) -> str:
    value = data.get(key)
    if not isinstance(value, str) or not value:
        raise ValueError(f"{key} is not a text")
    return value


def _texts(data: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = data.get(key)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"{key} is not a list of texts")
    return tuple(value)


def state_folder(system_drive: str) -> StateFolder:
    """The folder of a host with this system drive."""
    return StateFolder(f"{system_drive}\\ProgramData\\{FOLDER}")


def problem_with_sddl(sddl: str) -> str | None:
    """Why a folder with this security descriptor cannot be trusted; None when only SYSTEM and Administrators have a say.

    A descriptor without an owner part (icacls saves none) says nothing about the owner: the owner is set beside it.
    """
    owner = _OWNER.search(sddl)
    if owner is not None and owner.group(1) not in _TRUSTED:
        return f"its owner is {owner.group(1)}"
    dacl = _DACL.search(sddl)
    if dacl is None:
        return "it has no readable access list"
    if "P" not in dacl.group(1).replace("PAI", "P"):
        return "it inherits access from the folder above"
    granted = set()
    for ace in _ACE.findall(dacl.group(2)):
        parts = ace.split(";")
        if len(parts) != 6:
            return "its access list cannot be read"
        kind, _flags, rights, _object, _inherited, sid = parts
        if kind != "A":
            continue
        if sid not in _TRUSTED:
            return f"it grants access to {sid}"
        if rights.upper() in _FULL:
            granted.add({"SY": "S-1-5-18", "BA": "S-1-5-32-544"}.get(sid, sid))
    missing = {"S-1-5-18", "S-1-5-32-544"} - granted
    return f"it does not give full control to {', '.join(sorted(missing))}" if missing else None


def problem_with_owner(listed: str, reference: str) -> str | None:
    """Why the folder's owner cannot be trusted; None when it is that of ``reference``, a folder that Administrators own.

    ``listed`` is what ``dir /Q`` shows of both. Dates differ, and the words are the host's: so what stands from ``<`` up to the
    name is compared. Who owns a folder could close it today, and have put anything into it yesterday.
    """
    before: dict[str, str] = {}
    for line in listed.splitlines():
        for name in (FOLDER, reference):
            head = line.rstrip()
            if "<" in head and head.lower().endswith(name.lower()):  # a long owner is cut, and no space need follow it
                before[name] = head[head.index("<"):-len(name)].strip()
    if set(before) != {FOLDER, reference}:
        return "its owner cannot be read"
    return None if before[FOLDER] == before[reference] else "it does not belong to Administrators"


def sddl_of(saved: bytes) -> str:
    """The descriptor in what ``icacls /save`` wrote: a name and then SDDL, in UTF-16; ``type`` may have turned it into UTF-8."""
    text = saved.decode("utf-16-le", "replace") if b"\x00" in saved else saved.decode("utf-8", "replace")
    lines = [line.strip("\ufeff\x00 ") for line in text.splitlines()]
    return next((line for line in lines if re.match(r"(?:O:|G:|D:)", line)), "")


def ensure(writer: CimWriter, folder: StateFolder) -> None:
    """Make the state folder when it is missing, then check it.

    It is made under an unforeseeable name, closed, and only then given its name: whenever the controller dies,
    the folder is either closed or not there. Raises HypervError ``state_dir_untrusted`` with the finding: then nothing
    of ours runs on this host until a person looked.
    """
    drive, token = folder.path[:2], secrets.token_hex(6)
    values = {"STATE": folder.path, "LINKS": folder.links, "INTENTS": folder.intents, "JOBS": folder.jobs,
              "LEASES": folder.leases, "NEW": f"{folder.path}.{token}", "SAVED": f"{drive}\\Windows\\Temp\\{FOLDER}.{token}.acl"}
    with writing_programs(writer, values) as programs:
        seen = _look(programs, folder)
        if not seen.exists:
            _make(programs, folder, writer)
            seen = _look(programs, folder)
        problem = seen.problem(f"{FOLDER}.{token}")
        if problem is not None:
            raise _untrusted(folder, problem)
        if not seen.complete:
            programs.run(MAKE_PARTS, timeout=files.SHORT)  # existing ones make it fail: only what they are counts, and they inherit


@dataclass(frozen=True)
class Look:
    """What one look at the state folder showed, in the order in which the host was asked.

    ``links`` and ``links_after`` are the names of links beside it and itself, ``owners`` what ``dir /Q`` shows, ``saved`` what ``icacls
    /save`` wrote, ``said`` the errors of all that.
    """

    links: str
    exists: bool
    owners: str
    saved: bytes
    links_after: str
    complete: bool
    said: str = ""

    @property
    def is_link(self) -> bool:
        """It is a link, at the beginning or at the end of the look."""
        return any(name.strip().lower() == FOLDER for name in (*self.links.splitlines(), *self.links_after.splitlines()))

    def problem(self, reference: str) -> str | None:
        """Why the folder cannot be trusted; ``reference`` is the name of the folder that Administrators own for certain."""
        if not self.exists:
            return "it went away while it was looked at"
        owner = problem_with_owner(self.owners, reference)
        if owner is not None:
            return owner
        sddl = sddl_of(self.saved)
        return problem_with_sddl(sddl) if sddl else f"its access list cannot be read ({self.said})"


def look_from(output: bytes, said_by_host: str = "") -> Look:
    """A look out of what the line ``LOOK`` printed. Raises ValueError when the marks are not those of the line.

    A mark is a line of its own: names stand behind others or begin with the folder's, so that none can pass for one.
    """
    first, *rest = _MARK.split(output)
    if tuple(name.decode("ascii") for name in rest[::2]) != _MARKS:
        raise ValueError("the parts of the answer are not those that were asked for")
    exists, owners, saved, links_after, complete = rest[1::2]
    return Look(first.decode("utf-8", "replace"), exists.strip() == b"yes", owners.decode("utf-8", "replace"), saved,
                links_after.decode("utf-8", "replace"), complete.strip() == b"yes", said_by_host)


def _look(programs: Programs, folder: StateFolder) -> Look:
    shown = programs.run(LOOK, timeout=files.SHORT)
    try:
        seen = look_from(shown.stdout, said(shown))
    except ValueError as error:
        raise _untrusted(folder, f"{error} ({said(shown)})") from error
    if seen.is_link:
        raise _untrusted(folder, "it is a link to somewhere else")
    return seen


def _make(programs: Programs, folder: StateFolder, writer: CimWriter) -> None:
    try:
        result = programs.run(MAKE, timeout=files.SHORT)
        mark, *names = result.stdout.decode("utf-8", "replace").splitlines() or [""]
        if mark.strip() != _MADE:
            raise HypervError(f"Making and closing {folder.path} failed: {said(result)}", error_code="state_dir_not_made")
        if any(name.strip() for name in names):
            raise _untrusted(folder, "something was put into it while it was made")
        if programs.run(NAME, timeout=files.SHORT).exit_code != 0:  # another run was faster
            programs.run(DROP, timeout=files.SHORT)
    except HypervError:
        with contextlib.suppress(HypervError):  # the first error says more; an empty, closed folder is all that may stay
            files.run(writer, DROP, programs.values("NEW"))
        raise


def _untrusted(folder: StateFolder, problem: str) -> HypervError:
    return HypervError(
        f"The folder {folder.path} on the host cannot be trusted: {problem}.", error_code="state_dir_untrusted",
        hint="Look who made it and why. If it is of no use, remove it; the next run "
             "makes a new one that only SYSTEM and Administrators can use.")


def write_intent(writer: CimWriter, folder: StateFolder, intent: Intent) -> None:
    """Leave an intent on the host before the shadow copy is made."""
    text = text_of(folder, intent)
    files.write_text(writer, text.temporary, text.final, text.data)


def text_of(folder: StateFolder, intent: Intent) -> files.Text:
    """An intent as a text that somebody else writes."""
    path = folder.intent_for(intent.name)
    return files.Text(path + _TEMPORARY, path, intent.dump())


def link_shadow_copy(writer: CimWriter, folder: StateFolder, intent: Intent, shadow_id: str, device: str) -> Intent:
    """Make the link that marks a shadow copy as ours, and note in the intent's name that this is what came of it.

    Returns the intent under its new name. Raises HypervError ``link_not_made``: then the link may be there nevertheless.
    """
    answered = replace(intent, shadow_id=shadow_id)
    link = folder.link_for(shadow_id)
    # without the trailing backslash a link to a device is dead (operations 5.5)
    values = {"LINK": link, "TARGET": device if device.endswith("\\") else device + "\\", "INTENT": folder.intent_for(intent.name),
              "ANSWERED": f"{answered.name}.json"}
    command = LINK if intent.shadow_id is None else LINK_ONLY
    files.expect_success(files.run(writer, command, values), f"Making the link {link}", "link_not_made")
    return answered


def answer_intent(writer: CimWriter, folder: StateFolder, intent: Intent, shadow_id: str) -> Intent:
    """Note in the name of an intent which shadow copy came of it; returns it under its new name.

    Raises HypervError ``file_not_renamed``.
    """
    answered = replace(intent, shadow_id=shadow_id)
    path = folder.intent_for(intent.name)
    values = {"INTENT": path, "ANSWERED": f"{answered.name}.json"}
    files.expect_success(files.run(writer, ANSWER, values), f"Renaming {path}", "file_not_renamed")
    return answered


def remove_intent(writer: CimWriter, folder: StateFolder, intent: Intent) -> None:
    """Take an intent away, half-written or not: everything it announced is gone. Raises HypervError ``file_not_removed``."""
    result = files.run(writer, REMOVE_INTENT, {"STEM": f"{folder.intents}\\{intent.stem}"})
    files.expect_success(result, f"Removing {folder.intent_for(intent.name)}", "file_not_removed")
