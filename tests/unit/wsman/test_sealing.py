# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The multipart form of sealed messages in every spelling that was seen (wire 6.2, 9.2)."""
from __future__ import annotations

import struct
import time

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.sealing import SealError, sealed_parts
from hypothesis import given
from hypothesis import strategies as st


def part(sealed: bytes, length: int, *, tab: bytes = b"\t", boundary: bytes = b"--Encrypted Boundary") -> bytes:
    return (boundary + b"\r\n" + tab + b"Content-Type: application/HTTP-SPNEGO-session-encrypted\r\n"
            + tab + b"OriginalContent: type=application/soap+xml;charset=UTF-8;Length=" + str(length).encode() + b"\r\n"
            + boundary + b"\r\n" + tab + b"Content-Type: application/octet-stream\r\n" + struct.pack("<i", 4) + b"SIGN" + sealed)


@pytest.mark.parametrize("tab", [b"\t", b"", b"  "])
@pytest.mark.parametrize("boundary", [b"--Encrypted Boundary", b"-- Encrypted Boundary"])
def test_tabs_and_spaces(tab, boundary):
    body = part(b"sealed!", 7, tab=tab, boundary=boundary) + boundary + b"--\r\n"
    assert list(sealed_parts(body)) == [(b"\x04\0\0\0SIGNsealed!", 7)]


def test_several_parts():
    body = part(b"a" * 100, 100) + part(b"b" * 3, 3) + b"--Encrypted Boundary--\r\n"
    assert list(sealed_parts(body)) == [(b"\x04\0\0\0SIGN" + b"a" * 100, 100), (b"\x04\0\0\0SIGNbbb", 3)]


def test_sealed_bytes_may_look_like_a_boundary():
    sealed = b"--Encrypted Boundary--\r\n" * 3
    body = part(sealed, len(sealed)) + b"--Encrypted Boundary--\r\n"
    assert list(sealed_parts(body)) == [(b"\x04\0\0\0SIGN" + sealed, len(sealed))]


@given(st.binary(max_size=300))
def test_all_sealed_bytes_come_back(sealed):
    assert [one for one, _unused in sealed_parts(part(sealed, len(sealed)) + b"--Encrypted Boundary--\r\n")] == [b"\x04\0\0\0SIGN" + sealed]


@pytest.mark.parametrize("body", [
    b"", b"x", b"--Encrypted Boundary--\r\n", b"--Encrypted Boundary\r\n", part(b"x", 1), part(b"x", 1)[:60],
    part(b"x", 999_999_999) + b"--Encrypted Boundary--\r\n",
    part(b"x", 1).replace(b"Length=1", b"Length=x") + b"--Encrypted Boundary--\r\n",
    part(b"x", 1).replace(b"octet-stream", b"octets") + b"--Encrypted Boundary--\r\n", b"--Encrypted Boundary\r\n" * 50_000,
])
def test_anything_else(body):
    begun = time.process_time()
    with pytest.raises(SealError):
        list(sealed_parts(body))
    assert time.process_time() - begun < 2.0


PIECES = [b"--Encrypted Boundary", b"-- Encrypted Boundary", b"--", b"\r\n", b"\t", b"Length=3", b";Length=3", b"abc",
          b"Content-Type: application/octet-stream"]


@given(st.lists(st.sampled_from(PIECES), max_size=14).map(b"".join))
def test_pieces_in_any_order_end_in_one_kind_of_error_or_in_parts(body):
    try:
        assert all(length == 3 for _unused, length in sealed_parts(body))
    except SealError as error:
        assert str(error)
