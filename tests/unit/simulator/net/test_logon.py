# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Handshakes without a network: what no client would send must be refused, and nothing else."""
from __future__ import annotations

import pytest
import spnego
from hypothesis import example, given, settings
from hypothesis import strategies as st
from simulator.cim.model import Account
from simulator.net.logon import BindingRule, Handshake, LogonRefused
from spnego.channel_bindings import GssChannelBindings

ACCOUNT = Account("user", "password")


class One:
    """A directory of one account."""

    def account(self, user, domain):
        return ACCOUNT if user == ACCOUNT.name else None

    def ntlm_credentials(self):
        return [("", ACCOUNT.name, ACCOUNT.password)]


def handshake(scheme="Negotiate", rule=BindingRule()):  # noqa: B008  # a frozen value
    return Handshake(scheme, One(), "HV1", rule)


def first_token(protocol="ntlm"):
    return spnego.client("user", "password", protocol=protocol).step()


def run(client, server):
    token = client.step()
    while True:
        answer, identity = server.step(token)
        if identity is not None:
            return identity
        token = client.step(answer)


@pytest.mark.parametrize("protocol", ["ntlm", "negotiate"])
def test_raw_and_wrapped_ntlm(protocol):
    identity = run(spnego.client("user", "password", protocol=protocol), handshake())
    assert (identity.account, identity.scheme, identity.delegated) == (ACCOUNT, "ntlm", False)


@settings(deadline=None)
@given(st.sampled_from(["Negotiate", "Kerberos", "CredSSP"]), st.binary(min_size=1, max_size=400))
@example("Negotiate", b"NTLMSSP\x00")
@example("Negotiate", b"NTLMSSP\x00\x01\x00\x00\x00")
@example("Negotiate", b"NTLMSSP\x00\x03\x00\x00\x00" + bytes(60))
@example("CredSSP", b"\x16\x03\x01\xff\xff" + bytes(50))
def test_noise_is_refused(scheme, noise):
    server = handshake(scheme)
    try:
        _unused, identity = server.step(noise)
    except LogonRefused:
        return
    assert identity is None


@settings(deadline=None)  # the first use of CredSSP makes a key
@given(st.sampled_from(["ntlm", "negotiate", "credssp"]), st.integers(0, 5), st.integers(0, 2000), st.binary(min_size=1, max_size=6))
def test_a_token_with_damage_never_lets_anybody_else_in(protocol, leg, place, noise):
    server = handshake("CredSSP" if protocol == "credssp" else "Negotiate")
    client = spnego.client("user", "password", protocol=protocol)
    token = client.step()
    try:
        for number in range(12):
            if number == leg:
                damaged = bytearray(token)
                place %= len(damaged)
                damaged[place:place + len(noise)] = noise
                token = bytes(damaged)
            answer, identity = server.step(token)
            if identity is not None:
                assert identity.account == ACCOUNT
                return
            try:
                token = client.step(answer)
            except (spnego.exceptions.SpnegoError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError):
                return  # the client gives up on what it got for a damaged token
    except LogonRefused:
        return


@pytest.mark.parametrize(("hardening", "sent", "accepted"), [
    ("None", b"wrong", True), ("None", None, True), ("Relaxed", b"right", True), ("Relaxed", None, True), ("Relaxed", b"wrong", False),
    ("Strict", b"right", True), ("Strict", None, False), ("Strict", b"wrong", False),
])
@pytest.mark.parametrize("protocol", ["ntlm", "negotiate"])
def test_channel_bindings(hardening, sent, accepted, protocol):
    server = handshake(rule=BindingRule(GssChannelBindings(application_data=b"right"), hardening))
    bindings = GssChannelBindings(application_data=sent) if sent else None
    client = spnego.client("user", "password", protocol=protocol, channel_bindings=bindings)
    if accepted:
        assert run(client, server).account == ACCOUNT
    else:
        with pytest.raises(LogonRefused):
            run(client, server)


def test_an_account_that_vanished(monkeypatch):
    server = handshake()
    client = spnego.client("user", "password", protocol="ntlm")
    answer, _unused = server.step(client.step())
    monkeypatch.setattr(One, "account", lambda self, user, domain: None)
    with pytest.raises(LogonRefused):
        server.step(client.step(answer))
