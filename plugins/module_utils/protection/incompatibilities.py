# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a host cannot take a virtual machine, with advice for each reason (operations 3.5, F-39).

What a host says is in its own language, so only numbers decide: the MessageID of an error, or the HRESULT in its text. An error that is
in neither table is told as it is, under a code of its own: nothing is dropped, and nothing is guessed.
"""
from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

OTHER = "other_incompatibility"
_HRESULT = re.compile(r"0x([89A-Fa-f][0-9A-Fa-f]{7})(?![0-9A-Fa-f])")
_LONGEST = 1000


@dataclass(frozen=True)
class Incompatibility:
    """One reason. ``code`` is stable; ``message_id`` and ``text`` are what the host said, in its language."""

    code: str
    advice: str
    message_id: str | None
    text: str

    def as_result(self) -> dict[str, Any]:
        """One entry of ``incompatibilities``."""
        return {"code": self.code, "advice": self.advice, "message_id": self.message_id, "text": self.text}


_SWITCH = ("switch_missing",
           "An adapter is connected to a switch that this host does not have. Map it with networks, or leave it disconnected.")
_FILE = ("file_missing", "A file that the configuration names is not there. Look which one in text, and whether the backup holds it.")
_BY_ID: Mapping[str, tuple[str, str]] = {"33012": _SWITCH}
"""MessageIDs that Microsoft's documents name (operations 3.5)."""
_BY_HRESULT: Mapping[int, tuple[str, str]] = {
    0x80070002: _FILE, 0x80070003: _FILE,
    0x80070005: ("access_denied", "The host may not open a file of the virtual machine: look at the rights of the folder that text names."),
    0x80070020: ("file_in_use",
                 "A file of the virtual machine is opened by somebody else: another virtual machine, a backup, an antivirus."),
    0x80070070: ("no_space", "A volume of the host is full."),
    0x8007000E: ("no_memory", "The host has not the memory that the virtual machine wants at its start."),
}
_UNKNOWN = "The host says in text, in its own language, what it cannot take. Restore on a host like the original one, or change the source."


def of(message_id: str | None, text: str) -> Incompatibility:
    """What one error of a validation means."""
    number = (message_id or "").strip() or None
    known = _BY_ID.get(number or "")
    for found in _HRESULT.findall(text):
        known = known or _BY_HRESULT.get(int(found, 16))
    code, advice = known or (OTHER, _UNKNOWN)
    return Incompatibility(code, advice, number, text[:_LONGEST])


def sentence(found: Iterable[Incompatibility]) -> str:
    """All codes at once, for a message."""
    return ", ".join(dict.fromkeys(one.code for one in found))
