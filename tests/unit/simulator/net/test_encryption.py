# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sealed form of messages (wire 6.2), with a seal that anybody can look through."""
from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulator.net import encryption
from simulator.net.encryption import CREDSSP, KERBEROS, SPNEGO, Envelope, NotSealed, parse_content_type, seal, spoil, unseal

SOAP = "application/soap+xml;charset=UTF-8"
ONE = Envelope(SPNEGO, "Encrypted Boundary", multi=False)


class Glass:
    """Turns every bit; the header is the length of the message."""

    def wrap_winrm(self, data):
        return struct.pack(">Q", len(data)) + bytes(8), bytes(byte ^ 255 for byte in data), 0

    def unwrap_winrm(self, header, data):
        plain = bytes(byte ^ 255 for byte in data)
        if header != struct.pack(">Q", len(plain)) + bytes(8):
            raise NotSealed("wrong header")
        return plain


class Padded(Glass):
    """Like the old Kerberos ciphers: some bytes of padding, which pypsrp counts in ``Length``."""

    def unwrap_winrm(self, header, data):
        return super().unwrap_winrm(header, data[:-1])


def message(plain, *, length=None, tab=b"\t", dash=b"--", header=None, end=b"--Encrypted Boundary--\r\n", octet=b"application/octet-stream",
            protocol=b"application/HTTP-SPNEGO-session-encrypted", original=b"type=application/soap+xml;charset=UTF-8"):
    head, data, _unused = Glass().wrap_winrm(plain)
    head = head if header is None else header
    length = str(len(plain)).encode() if length is None else length
    return (dash + b"Encrypted Boundary\r\n" + tab + b"Content-Type: " + protocol + b"\r\n"
            + tab + b"OriginalContent: " + original + b";Length=" + length + b"\r\n" + dash + b"Encrypted Boundary\r\n"
            + tab + b"Content-Type: " + octet + b"\r\n" + struct.pack("<I", len(head)) + head + data + end)


@given(st.binary(max_size=500))
def test_what_is_sealed_unseals(plain):
    content_type, body = seal(Glass(), SPNEGO, plain, SOAP)
    assert unseal(Glass(), parse_content_type(content_type), body) == (plain, SOAP)
    assert body == message(plain)


@given(st.binary(max_size=60), st.integers(0, 3))
def test_sealed_bytes_may_look_like_boundaries(noise, place):
    lookalikes = [b"--Encrypted Boundary\r\n", b"--Encrypted Boundary--\r\n", b"\r\n\r\n", b"-- Encrypted Boundary\r\n"]
    plain = bytes(byte ^ 255 for byte in lookalikes[place]) + noise
    assert unseal(Glass(), ONE, message(plain)) == (plain, SOAP)


def test_a_boundary_with_a_space_and_headers_without_a_tab():
    assert unseal(Glass(), ONE, message(b"abc", tab=b"", dash=b"-- ")) == (b"abc", SOAP)


def test_the_encoding_of_the_message_is_handed_on():
    body = message("ü".encode("utf-16"), original=b"type=application/soap+xml;charset=UTF-16")
    assert unseal(Glass(), ONE, body) == ("ü".encode("utf-16"), "application/soap+xml;charset=UTF-16")
    assert b"charset=UTF-16;Length=4" in seal(Glass(), SPNEGO, "ü".encode("utf-16"), "application/soap+xml; charset=UTF-16")[1]


@pytest.mark.parametrize(("size", "parts"), [(0, 1), (16384, 1), (16385, 2), (49153, 4)])
def test_credssp_splits_at_16_kib(size, parts):
    content_type, body = seal(Glass(), CREDSSP, b"x" * size, SOAP)
    assert body.count(b"Length=") == parts
    assert content_type.startswith("multipart/x-multi-encrypted;" if parts > 1 else "multipart/encrypted;")
    assert unseal(Glass(), parse_content_type(content_type), body) == (b"x" * size, SOAP)


def test_ntlm_never_splits():
    assert seal(Glass(), SPNEGO, b"x" * 50_000, SOAP)[1].count(b"Length=") == 1


def test_several_parts_need_the_multi_type():
    _unused, body = seal(Glass(), CREDSSP, b"x" * 20_000, SOAP)
    with pytest.raises(NotSealed):
        unseal(Glass(), Envelope(CREDSSP, "Encrypted Boundary", multi=False), body)


@pytest.mark.parametrize("body", [
    b"", b"junk", message(b"abc")[:-2], message(b"abc") + b"x", message(b"abc", length=b"4"), message(b"abc", length=b"2"),
    message(b"abc", length=b""), message(b"abc", length=b"-1"), message(b"abc", length=b"9" * 30), message(b"abc", end=b""),
    message(b"abc", header=b""), message(b"abc", octet=b"text/plain"),
    message(b"abc", protocol=b"application/HTTP-Kerberos-session-encrypted"),
    message(b"abc", original=b"charset=UTF-8"), b"--Encrypted Boundary--\r\n", b"--Encrypted Boundary\r\n" * 3,
    b"--Encrypted Boundary\r\n" + b"x" * 5000, message(b"abc").replace(struct.pack("<I", 16), struct.pack("<I", 0xFFFFFFFF)),
    message(b"abc").replace(b"\r\n", b"\n"),
])
def test_what_is_not_of_the_form(body):
    with pytest.raises(NotSealed):
        unseal(Glass(), ONE, body)


@given(st.binary(max_size=300), st.integers(0, 400), st.integers(0, 255))
def test_damage_is_noticed_or_harmless(plain, place, byte):
    body = bytearray(message(plain))
    body[place % len(body)] = byte
    try:
        text, _unused = unseal(Glass(), ONE, bytes(body))
    except NotSealed:
        return
    assert len(text) == len(plain)


def test_padding_may_be_counted_in_length_with_kerberos_only():
    body = message(b"abc", length=b"4", end=b"\x00--Encrypted Boundary--\r\n")
    assert unseal(Padded(), ONE, body, padded=True) == (b"abc", SOAP)
    with pytest.raises(NotSealed):
        unseal(Padded(), ONE, body)


@pytest.mark.parametrize("value", ["", SOAP, "text/xml", "multipart/form-data; boundary=x"])
def test_plain_content_types(value):
    assert parse_content_type(value) is None


@pytest.mark.parametrize(("value", "expected"), [
    (f'multipart/encrypted;protocol="{SPNEGO}";boundary="Encrypted Boundary"', ONE),
    (f'Multipart/Encrypted; Protocol="{SPNEGO.upper()}"; boundary="Encrypted Boundary"', ONE),
    (f'multipart/encrypted;protocol="{KERBEROS}";boundary=b', Envelope(KERBEROS, "b", multi=False)),
    (f'multipart/x-multi-encrypted;protocol="{CREDSSP}";boundary=b', Envelope(CREDSSP, "b", multi=True)),
])
def test_sealed_content_types(value, expected):
    assert parse_content_type(value) == expected


@pytest.mark.parametrize("value", [
    "multipart/encrypted", f'multipart/encrypted;protocol="{SPNEGO}"', 'multipart/encrypted;boundary="x"',
    f'multipart/encrypted;protocol="{SPNEGO}";boundary=""', 'multipart/encrypted;protocol="application/pgp";boundary="x"',
])
def test_content_types_that_cannot_be_used(value):
    with pytest.raises(NotSealed):
        parse_content_type(value)


def test_spoiling_keeps_form_and_length():
    body = message(b"some plain text")
    spoiled = spoil(body)
    assert len(spoiled) == len(body)
    assert spoiled != body
    with pytest.raises(NotSealed):
        unseal(Glass(), ONE, spoiled)


def test_an_imitation_has_the_form():
    content_type, body = encryption.imitation(b"text")
    assert parse_content_type(content_type) == ONE
    assert b"Length=4\r\n" in body
