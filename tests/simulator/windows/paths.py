# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Windows path rules: what a path text means, before anything on disk is looked at."""
from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from simulator.windows import errors
from simulator.windows.errors import Win32Error

MAX_PATH = 260
RESERVED = frozenset(["con", "prn", "aux", "nul", *[f"com{n}" for n in range(1, 10)], *[f"lpt{n}" for n in range(1, 10)]])
SHADOW_DEVICE = "\\\\?\\GLOBALROOT\\Device\\HarddiskVolumeShadowCopy"

_ILLEGAL = re.compile(r'[<>:"/|?*\x00-\x1f]')
_VOLUME = re.compile(r"\\\\\?\\Volume\{([0-9A-Fa-f-]{36})\}(\\.*)?\Z", re.DOTALL | re.IGNORECASE)
_SHADOW = re.compile(r"\\\\\?\\GLOBALROOT\\Device\\HarddiskVolumeShadowCopy(\d+)(\\.*)?\Z", re.DOTALL | re.IGNORECASE)
_DRIVE = re.compile(r"([A-Za-z]):(.*)\Z", re.DOTALL)
_LONG_UNC = "\\\\?\\UNC\\"
_PREFIX = "\\\\?\\"


@dataclass(frozen=True)
class WindowsPath:
    """A parsed absolute path.

    ``kind`` is ``drive`` (root ``C:``), ``volume`` (root: the GUID), ``shadow`` (root: the number) or ``unc`` (root: ``server\\share``).
    ``raw_device`` is true for a volume or shadow device without any backslash after it: the device, not its root folder.
    """

    kind: str
    root: str
    parts: tuple[str, ...]
    raw_device: bool = False
    verbatim: bool = False

    def text(self) -> str:
        """The path in its usual form, without a trailing backslash except for a root."""
        roots = {"drive": self.root, "volume": f"\\\\?\\Volume{{{self.root}}}", "shadow": SHADOW_DEVICE + self.root,
                 "unc": "\\\\" + self.root}
        base = roots[self.kind]
        if self.parts:
            return base + "\\" + "\\".join(self.parts)
        return base if self.raw_device or self.kind == "unc" else base + "\\"

    def child(self, name: str) -> WindowsPath:
        """The path of an entry of this folder."""
        return WindowsPath(self.kind, self.root, (*self.parts, name), verbatim=self.verbatim)

    @property
    def parent(self) -> WindowsPath:
        """The folder above; a root is its own parent."""
        return WindowsPath(self.kind, self.root, self.parts[:-1], verbatim=self.verbatim)


def fold(name: str) -> str:
    """The form in which two names are compared: NTFS ignores case, character by character."""
    if name.isascii():
        return name.upper()
    return "".join(c.upper() if len(c.upper()) == 1 else c for c in name)


def check_name(name: str, path: str) -> None:
    """Refuse a name that no Windows file can have: illegal characters, device names, over 255 UTF-16 units."""
    if _ILLEGAL.search(name):
        raise Win32Error(errors.INVALID_NAME, path)
    if name.split(".")[0].rstrip(" ").lower() in RESERVED:
        raise Win32Error(errors.INVALID_NAME, path)
    if len(name) > 127 and len(name.encode("utf-16-le", "surrogatepass")) // 2 > 255:
        raise Win32Error(errors.INVALID_NAME, path)


def _parts(text: str, path: str, verbatim: bool) -> tuple[str, ...]:
    parts: list[str] = []
    for piece in (text if verbatim else text.replace("/", "\\")).split("\\"):
        if verbatim:
            name = piece
            if piece in (".", "..") or piece != piece.rstrip(". "):  # taken literally by \\?\, and no tool of ours can mean it
                raise Win32Error(errors.INVALID_NAME, path)
        else:
            if piece in ("", "."):
                continue
            if piece == "..":
                parts = parts[:-1]
                continue
            name = piece.rstrip(". ")  # the Win32 layer drops trailing dots and spaces
        if not name:
            continue
        check_name(name, path)
        parts.append(name)
    return tuple(parts)


@lru_cache(maxsize=4096)
def parse(text: str, current: str = "C:\\") -> WindowsPath:
    """What ``text`` means when ``current`` is the current directory. Raises Win32Error 123, 3 or 53."""
    if not text or text.isspace() or "\x00" in text:
        raise Win32Error(errors.PATH_NOT_FOUND, text)
    shadow = _SHADOW.match(text)
    if shadow:
        rest = shadow.group(2)
        return WindowsPath("shadow", shadow.group(1), _parts(rest or "", text, True), rest is None, True)
    volume = _VOLUME.match(text)
    if volume:
        rest = volume.group(2)
        return WindowsPath("volume", volume.group(1).lower(), _parts(rest or "", text, True), rest is None, True)
    if text.upper().startswith(_LONG_UNC):
        return _unc(text[len(_LONG_UNC):], text, True)
    verbatim = text.startswith(_PREFIX)
    if verbatim:
        text_after = text[len(_PREFIX):]
        drive = _DRIVE.match(text_after)
        if not drive or not drive.group(2).startswith("\\"):
            raise Win32Error(errors.INVALID_NAME, text)
        return WindowsPath("drive", drive.group(1).upper() + ":", _parts(drive.group(2), text, True), verbatim=True)
    text = text.replace("/", "\\")
    if text.startswith(("\\\\.\\", "\\\\?")):
        raise Win32Error(errors.INVALID_NAME, text)
    if text.startswith("\\\\"):
        return _unc(text[2:], text, False)
    return _dos(text, current)


def _dos(text: str, current: str) -> WindowsPath:
    drive = _DRIVE.match(text)
    here = None if drive and drive.group(2).startswith("\\") else parse(current)
    if drive:
        letter, rest = drive.group(1).upper() + ":", drive.group(2)
        if not rest.startswith("\\") and here is not None and here.kind == "drive" and here.root == letter:
            rest = "\\".join(("", *here.parts, rest))
        return WindowsPath("drive", letter, _parts(rest, text, False))
    if here is None:
        raise Win32Error(errors.PATH_NOT_FOUND, text)
    joined = text if text.startswith("\\") else "\\".join((*here.parts, text))
    return WindowsPath(here.kind, here.root, _parts(joined, text, False))


def _unc(rest: str, text: str, verbatim: bool) -> WindowsPath:
    pieces = [piece for piece in rest.split("\\") if piece]
    if len(pieces) < 2:
        raise Win32Error(errors.BAD_NETPATH, text)
    if any(_ILLEGAL.search(piece) for piece in pieces[:2]):
        raise Win32Error(errors.BAD_NETPATH, text)
    return WindowsPath("unc", "\\".join(pieces[:2]), _parts("\\".join(pieces[2:]), text, verbatim), verbatim=verbatim)


def is_device_form(text: str) -> bool:
    r"""True for ``\\?\GLOBALROOT\...``, which most programs do not take (operations 5.5)."""
    return text.upper().startswith("\\\\?\\GLOBALROOT")
