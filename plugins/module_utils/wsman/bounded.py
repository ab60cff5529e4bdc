# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Limits on what a server can make a client read or wait for: total bytes, total time, header size.

The limits sit below HTTP, on the socket, so that status lines, headers, chunk framing and authentication legs count too,
and so that a server which drips one byte at a time cannot renew a time-out with every byte.
"""
from __future__ import annotations

import io
import socket
from typing import Any, Literal

from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Deadline

HEADER_BYTES = 128 * 1024
"""Status line and headers of one answer, read-ahead included."""

Exceeded = Literal["", "bytes", "time", "headers"]


class LimitExceeded(OSError):
    """Reading stopped at a limit; which one is in :attr:`Budget.exceeded`."""


class Budget:
    """What one message may cost, and how far it got. One object serves a whole lane and is restarted for each message."""

    def __init__(self, max_bytes: int, patience: float) -> None:
        self._max_bytes = max_bytes
        self._patience = patience
        self._deadline: Deadline | None = None
        self._left = max_bytes
        self._header_left: int | None = None
        self.exceeded: Exceeded = ""
        self.sent_complete = False
        self.bytes_sent = 0
        self.bytes_received = 0

    def restart(self, deadline: Deadline) -> None:
        """A new message begins; ``deadline`` bounds all of its legs together."""
        self._deadline = deadline
        self._left = self._max_bytes
        self._header_left = None
        self.exceeded = ""

    def request_begins(self) -> None:
        """One HTTP request is about to go out."""
        self.sent_complete = False

    def request_sent(self) -> None:
        """The last byte of the HTTP request was handed over; before that the host cannot have acted on it."""
        self.sent_complete = True

    def headers_begin(self) -> None:
        """An answer's headers are about to be read."""
        self._header_left = HEADER_BYTES

    def headers_end(self) -> None:
        """The headers were read; from here only the total counts."""
        self._header_left = None

    def seconds(self) -> float:
        """How long the next read or write may block. Raises LimitExceeded when no time is left."""
        remaining = self._patience if self._deadline is None else min(self._patience, self._deadline.remaining())
        if remaining <= 0.0:
            raise self._stop("time")
        return remaining

    def out_of_time(self) -> bool:
        """True when the deadline of the message has passed."""
        return self._deadline is not None and self._deadline.expired()

    def received(self, count: int) -> None:
        """Count bytes that were read. Raises LimitExceeded beyond a limit."""
        self.bytes_received += count
        self._left -= count
        if self._left < 0:
            raise self._stop("bytes")
        if self._header_left is not None:
            self._header_left -= count
            if self._header_left < 0:
                raise self._stop("headers")

    def _stop(self, why: Exceeded) -> LimitExceeded:
        self.exceeded = why
        return LimitExceeded(f"the limit of {why} of one answer was reached")


class _BoundedReader(io.RawIOBase):
    """The reading side of a socket. ``_sock`` is where authentication libraries look for the TLS certificate."""

    def __init__(self, sock: socket.socket, budget: Budget) -> None:
        super().__init__()
        self._sock = sock
        self._raw = sock.makefile("rb", buffering=0)  # keeps the socket open until this object is closed
        self._budget = budget

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(self._budget.seconds())
        count = self._raw.readinto(buffer)
        if count:
            self._budget.received(count)
        return count

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()


class BoundedSocket:
    """A connected socket whose traffic is counted and limited; everything else passes through to the real one."""

    def __init__(self, sock: socket.socket, budget: Budget) -> None:
        self._sock = sock
        self._budget = budget

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def sendall(self, data: bytes) -> None:
        """Send everything within the time that is left."""
        self._sock.settimeout(self._budget.seconds())
        self._sock.sendall(data)
        self._budget.bytes_sent += len(data)

    def makefile(self, mode: str = "rb", buffering: int | None = None) -> io.BufferedReader:
        """The only reader that HTTP makes of a socket."""
        return io.BufferedReader(_BoundedReader(self._sock, self._budget))
