# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``certutil -hashfile FILE [ALGORITHM]``: three lines, the words of the first and last in the language of the host."""
from __future__ import annotations

import hashlib
from collections.abc import Generator

from simulator.windows import acl, errors
from simulator.windows.cmdparse import split_arguments
from simulator.windows.errors import Win32Error
from simulator.windows.programs.base import Context, NeedInput, NotSimulated, Steps

_ALGORITHMS = {"md5": "MD5", "sha1": "SHA1", "sha256": "SHA256", "sha384": "SHA384", "sha512": "SHA512"}


def run(context: Context, tail: str) -> Steps:
    """Hash a file, taking simulated time for its size. Failures exit with the HRESULT."""
    words = split_arguments(tail)
    if not words or words[0].lstrip("-/").lower() != "hashfile":
        raise NotSimulated("certutil other than -hashfile")
    words = [word for word in words[1:] if not word.startswith("-")]
    algorithm = (words[1] if len(words) > 1 else "SHA1").lower()
    try:
        if not words or len(words) > 2 or algorithm not in _ALGORITHMS:
            raise Win32Error(errors.INVALID_PARAMETER, tail)
        digest = yield from _digest(context, words[0], algorithm)
    except Win32Error as refused:
        symbol = errors.SYMBOLS.get(refused.code, "ERROR_INVALID_PARAMETER" if refused.code == errors.INVALID_PARAMETER else "")
        detail = f"0x{0x80070000 + refused.code:08x} (WIN32: {refused.code} {symbol})"
        context.out(context.say("certutil_failed", detail))
        context.out("CertUtil: " + context.error_text(refused.code))
        return 0x80070000 + refused.code - 2**32
    if context.facts.os_version == "2012R2":  # older builds print the bytes apart
        digest = " ".join(digest[at:at + 2] for at in range(0, len(digest), 2))
    context.out(context.say("hash_of", _ALGORITHMS[algorithm], words[0]))
    context.out(digest)
    context.out(context.say("certutil_ok"))
    return 0


def _digest(context: Context, path: str, algorithm: str) -> Generator[float | NeedInput, None, str]:
    place = context.existing(path)
    if place.is_directory:
        raise Win32Error(errors.ACCESS_DENIED, path)
    context.files.check(place, acl.READ_DATA, context.token)
    context.files.check_readable(place)
    if place.real.stat().st_size == 0:
        raise Win32Error(errors.FILE_INVALID, path)
    state = hashlib.new(algorithm)
    with place.real.open("rb") as stream:
        while chunk := stream.read(context.speeds.chunk):
            state.update(chunk)
            yield len(chunk) / context.speeds.hash_bytes_per_second
    return state.hexdigest()
