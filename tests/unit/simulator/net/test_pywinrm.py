# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""pywinrm, as it comes from PyPI, against the listener."""
from __future__ import annotations

import pytest
from simulator.cim.model import Account
from simulator.net.contract import Answer
from winrm.exceptions import InvalidCredentialsError, WinRMTransportError
from winrm.transport import Transport

MESSAGE = '<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope">Grüße 🖥</s:Envelope>'


def transport(host, account=None, password=None, **options):
    account = account or host.people.accounts[0]
    options.setdefault("auth_method", "ntlm")
    options.setdefault("read_timeout_sec", 10)
    return Transport(host.url, username=account.display, password=account.password if password is None else password, proxy=None, **options)


def test_ntlm_with_sealed_messages(start_host):
    host = start_host()
    client = transport(host, message_encryption="always")
    assert client.send_message(MESSAGE) == MESSAGE.encode()
    assert client.send_message(MESSAGE * 10) == (MESSAGE * 10).encode()
    assert host.echo.bodies == [MESSAGE.encode(), (MESSAGE * 10).encode()]
    caller = host.echo.callers[0]
    assert (caller.account.name, caller.scheme, caller.elevated, caller.delegated) == ("Administrator", "ntlm", True, False)
    assert (host.counters.connections, host.counters.auth_legs, host.counters.unauthorized, host.counters.logon_failures) == (1, 2, 1, 0)
    client.close_session()
