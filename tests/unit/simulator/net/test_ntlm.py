# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who logs on: names in NTLM messages, and the account of the host that they stand for."""
from __future__ import annotations

import threading

import pytest
import spnego
from hypothesis import given
from hypothesis import strategies as st
from simulator.net import ntlm
from simulator.net.ntlm import CredentialFile, Logon, Match, credential_line, find_logon, match_account

ACCOUNTS = [("", "Administrator", "a"), ("", "svc", "local"), ("CONTOSO", "svc", "domain"), ("CONTOSO", "op", "x"),
            ("fabrikam.test", "eve", "y")]


@pytest.mark.parametrize(("user", "domain", "expected"), [
    ("administrator", "", ("Administrator", None)),
    ("Administrator", "HV1", ("Administrator", None)),
    ("Administrator", "hv1.contoso.test", ("Administrator", None)),
    ("Administrator", ".", ("Administrator", None)),
    ("Administrator", "ELSEWHERE", ("Administrator", None)),
    ("Administrator", "CONTOSO", None),
    ("svc", "", ("svc", None)),
    ("svc", "contoso", ("svc", "CONTOSO")),
    ("svc@contoso.test", "", ("svc", "CONTOSO")),
    ("op", "", ("op", "CONTOSO")),
    ("op", ".", None),
    ("op", "HV1", None),
    ("eve", "FABRIKAM", ("eve", "fabrikam.test")),
    ("nobody", "", None),
    ("", "", None),
])
def test_the_account_that_a_name_stands_for(user, domain, expected):
    found = match_account(Logon(user, domain, has_bindings=False), ACCOUNTS, "hv1.contoso.test")
    assert (None if found is None else (found.user, found.domain)) == expected


def test_the_line_holds_the_name_as_the_client_sent_it():
    line = credential_line(Logon("ADMIN", "hv1", has_bindings=False), Match("admin", None, "password"))
    assert line == "hv1\\ADMIN:0:00000000000000000000000000000000:8846F7EAEE8FB117AD06BDD830B7586C:[U]:LCT-0"  # the well-known NT hash


@pytest.mark.parametrize("user", ["a:b", "a\nb", "a\u2028b"])
def test_a_name_that_would_break_the_line_is_no_account(user):
    assert credential_line(Logon(user, "", has_bindings=False), Match(user, None, "x")) == ""


def authenticate(user, password, **options):
    client = spnego.client(user, password, protocol="ntlm", options=spnego.NegotiateOptions.use_ntlm, **options)
    file = ntlm.credential_file()
    server = spnego.server(protocol="ntlm")
    return client.step(file.while_holding("", lambda: server.step(client.step())))


def test_names_in_an_authenticate_message():
    token = authenticate("DÖMAIN\\用户🖥", "x")
    assert find_logon(token) == Logon("用户🖥", "DÖMAIN", has_bindings=False)
    assert find_logon(b"\x30\x10wrapped" + token) == Logon("用户🖥", "DÖMAIN", has_bindings=False)
    bindings = spnego.channel_bindings.GssChannelBindings(application_data=b"tls-server-end-point:x")
    assert find_logon(authenticate("user@realm.test", "x", channel_bindings=bindings)) == Logon("user@realm.test", "", has_bindings=True)


def test_other_tokens_hold_no_log_on():
    assert find_logon(spnego.client("u", "p", protocol="ntlm").step()) is None
    assert find_logon(b"") is None


@given(st.integers(8, 400), st.binary(min_size=1, max_size=8))
def test_damaged_messages_are_refused_or_read(place, noise):
    token = bytearray(authenticate("DOMAIN\\user", "x"))
    token[12 + place % (len(token) - 12):][:len(noise)] = noise
    try:
        found = find_logon(bytes(token[:-3]))
    except ValueError:
        return
    assert found is None or isinstance(found.user, str)


def test_the_file_holds_a_line_only_while_a_step_runs(monkeypatch):
    monkeypatch.setenv("NTLM_USER_FILE", "")  # restored afterwards; a file of this test's own takes its place
    file = CredentialFile()
    path = file._path
    assert file.while_holding("line", path.read_text) == "line"
    assert path.read_text() == ""
    with pytest.raises(ZeroDivisionError):
        file.while_holding("line", lambda: 1 // 0)
    assert path.read_text() == ""


def test_steps_of_several_threads_do_not_see_each_other(monkeypatch):
    monkeypatch.setenv("NTLM_USER_FILE", "")
    file = CredentialFile()
    seen = []

    def work(number):
        for _unused in range(50):
            seen.append(file.while_holding(f"line {number}", file._path.read_text) == f"line {number}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [True] * 200
