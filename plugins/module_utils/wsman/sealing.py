# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The multipart form of sealed messages, read leniently (wire 6.2).

Boundaries may have a space after the dashes and part headers may lack the tab. The end of sealed bytes is looked for only after
as many bytes as the plaintext has, since sealed bytes may contain anything.
"""
from __future__ import annotations

import re
from collections.abc import Iterator

_BOUNDARY = re.compile(rb"-- ?Encrypted Boundary(--)?\r\n")
_LENGTH = re.compile(rb";\s*Length=(\d{1,12})\s*\Z", re.IGNORECASE)
_OCTETS = re.compile(rb"[ \t]*Content-Type:[ \t]*application/octet-stream[ \t]*\r\n", re.IGNORECASE)
_PREFIX = 4  # the little-endian length of the encryption header


class SealError(ValueError):
    """A sealed answer is not of the form of wire 6.2."""


def sealed_parts(body: bytes) -> Iterator[tuple[bytes, int]]:
    """Yield ``(length prefix + encryption header + sealed bytes, plaintext length)`` of each part, one or several."""
    found = _BOUNDARY.match(body)
    if found is None or found.group(1):
        raise SealError("no boundary at the start")
    while True:
        described = _BOUNDARY.search(body, found.end())
        if described is None or described.group(1):
            raise SealError("a part without sealed bytes")
        length = _LENGTH.search(body[found.end():described.start()].rstrip())
        octets = _OCTETS.match(body, described.end())
        if length is None or octets is None:
            raise SealError("a part without its headers")
        plain_length = int(length.group(1))
        end = _BOUNDARY.search(body, octets.end() + _PREFIX + plain_length)
        if end is None:
            raise SealError("the sealed bytes do not end")
        yield body[octets.end():end.start()], plain_length
        if end.group(1):
            return
        found = end
