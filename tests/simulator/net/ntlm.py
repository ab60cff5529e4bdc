# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""NTLM as the host sees it: who logs on, with which of its accounts, and how the library that does the cryptography learns that.

pyspnego's acceptor reads the accounts from the file that the environment variable ``NTLM_USER_FILE`` names, one for the whole process,
while a fleet has many hosts with different accounts. So the variable is set once for a process, to a private file, and never changed
again (changing the environment while C libraries read it is unsafe), and the file is rewritten under a lock for each log-on: it then
holds the one account that this host would compare with, under the very name that the client sent.
"""
from __future__ import annotations

import functools
import os
import struct
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from spnego._ntlm_raw.crypto import ntowfv1  # the only MD4 at hand: OpenSSL 3 has none without its legacy provider

_Result = TypeVar("_Result")

NTLM_SIGNATURE = b"NTLMSSP\x00"
_AUTHENTICATE = NTLM_SIGNATURE + struct.pack("<I", 3)
_NEGOTIATE_UNICODE = 0x00000001
_AV_END = 0
_AV_CHANNEL_BINDINGS = 10
_NTLMV2_AV_PAIRS = 44  # the proof (16 bytes) and the fixed part of the client challenge (28 bytes) come before them
_NTLMV1_RESPONSE = 24
_NO_BINDINGS = bytes(16)
_ENVIRONMENT = "NTLM_USER_FILE"


@dataclass(frozen=True)
class Logon:
    """What an AUTHENTICATE message says of itself; nothing of it is proved yet."""

    user: str
    domain: str
    has_bindings: bool
    """A channel binding other than zeros is part of the proof."""


@dataclass(frozen=True)
class Match:
    """The account whose password the proof is compared with."""

    user: str
    domain: str | None
    password: str


def find_logon(token: bytes) -> Logon | None:
    """The AUTHENTICATE message in a raw or SPNEGO-wrapped token; None when it holds none. Raises ValueError when it is malformed."""
    start = token.find(_AUTHENTICATE)
    if start < 0:
        return None
    message = token[start:]
    if len(message) < 64:
        raise ValueError("the NTLM message ends too early")
    flags = struct.unpack_from("<I", message, 60)[0]
    encoding = "utf-16-le" if flags & _NEGOTIATE_UNICODE else "cp437"
    response = _field(message, 20)
    return Logon(user=_field(message, 36).decode(encoding), domain=_field(message, 28).decode(encoding),
                 has_bindings=_has_bindings(response))


def _field(message: bytes, offset: int) -> bytes:
    length, _capacity, position = struct.unpack_from("<HHI", message, offset)
    if position + length > len(message):
        raise ValueError("a field of the NTLM message lies outside of it")
    return message[position:position + length]


def _has_bindings(response: bytes) -> bool:
    if len(response) <= _NTLMV1_RESPONSE:
        return False
    position = _NTLMV2_AV_PAIRS
    while position + 4 <= len(response):
        kind, length = struct.unpack_from("<HH", response, position)
        value = response[position + 4:position + 4 + length]
        if kind == _AV_CHANNEL_BINDINGS:
            return value != _NO_BINDINGS
        if kind == _AV_END:
            return False
        position += 4 + length
    return False


def match_account(logon: Logon, accounts: Sequence[tuple[str, str, str]], host_name: str) -> Match | None:
    """The account that a host called ``host_name`` compares a log-on with; ``accounts`` as of ``Directory.ntlm_credentials``.

    A name without a domain, with ``.`` or with the host's own name is a local account, else one of the domain; ``name@realm`` names
    its domain; a domain that the host does not know is taken as the host itself, as Windows does for names from no trusted domain.
    """
    user, domain = logon.user, logon.domain
    if not domain and "@" in user:
        user, _unused, domain = user.rpartition("@")
    candidates = [entry for entry in accounts if entry[1].lower() == user.lower()]
    local = [entry for entry in candidates if not entry[0]]
    of_domains = [entry for entry in candidates if entry[0]]
    if not domain or same_domain(domain, host_name):
        ordered = local + (of_domains if not domain else [])
    elif domain == ".":
        ordered = local
    else:
        named = [entry for entry in of_domains if same_domain(entry[0], domain)]
        known = any(entry[0] and same_domain(entry[0], domain) for entry in accounts)
        ordered = named if known else local
    if not ordered:
        return None
    account_domain, name, password = ordered[0]
    return Match(user=name, domain=account_domain or None, password=password)


def same_domain(one: str, other: str) -> bool:
    """Equal without case, also when one is the NetBIOS form (the first label) of the other."""
    one, other = one.lower(), other.lower()
    return one == other or one == other.partition(".")[0] or other == one.partition(".")[0]


def credential_line(logon: Logon, match: Match | None) -> str:
    """The line by which the acceptor compares ``logon`` with ``match``; empty when nothing may fit.

    The form with hashes is used since a password may hold a colon. A name that would break the line is no account: Windows allows
    neither colons nor control characters in account names.
    """
    name = f"{logon.domain}\\{logon.user}" if logon.domain else logon.user
    if match is None or ":" in name or len(name.splitlines()) != 1:
        return ""
    no_lm_hash = "0" * 32
    return f"{name}:0:{no_lm_hash}:{ntowfv1(match.password).hex().upper()}:[U]:LCT-0"


class CredentialFile:
    """The one file of this process from which pyspnego's acceptor reads accounts."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._folder = tempfile.TemporaryDirectory(prefix="winrm-accounts-", ignore_cleanup_errors=True)
        self._path = Path(self._folder.name) / "accounts"
        self._path.write_text("", encoding="utf-8")
        os.environ[_ENVIRONMENT] = str(self._path)

    def while_holding(self, line: str, step: Callable[[], _Result]) -> _Result:
        """Run ``step`` while the file holds exactly ``line``."""
        with self._lock:
            self._path.write_text(line, encoding="utf-8")
            try:
                return step()
            finally:
                self._path.write_text("", encoding="utf-8")


@functools.cache
def _credential_file_of(process: int) -> CredentialFile:
    del process  # only the key: a forked child must not share the file of its parent
    return CredentialFile()


def credential_file() -> CredentialFile:
    """The file of this process; the first call sets the environment variable."""
    return _credential_file_of(os.getpid())
