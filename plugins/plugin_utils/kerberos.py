# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kerberos tickets, obtained as ansible's winrm connection obtains them: kinit, with a cache of the task's own."""
from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from ansible_collections.agentless.hyperv.plugins.module_utils.errors import ConnectionFailed
from ansible_collections.agentless.hyperv.plugins.plugin_utils.connection import Ticket

KINIT_SECONDS = 60


def kerberos_available() -> bool:
    """True when pywinrm can speak Kerberos here: its own copy of requests-kerberos needs the module of pykerberos."""
    return find_spec("kerberos") is not None


@contextmanager
def ticket_cache(ticket: Ticket | None, password: str | None) -> Iterator[dict[str, str]]:
    """Yield the environment that a Kerberos lane needs; the ticket is gone afterwards.

    Raises :class:`ConnectionFailed` (``kerberos_ticket``) when kinit cannot be run or refuses; its words are kept, without the password.
    """
    if ticket is None:
        yield {}
        return
    with tempfile.NamedTemporaryFile(prefix="agentless-hyperv-krb5-") as cache:
        name = f"FILE:{cache.name}"
        environment = {"PATH": os.environ.get("PATH", os.defpath), "KRB5CCNAME": name}
        passed_on = {"KRB5_CONFIG", *ticket.environment} - set(environment)
        environment.update({key: os.environ[key] for key in passed_on if key in os.environ})
        _kinit(ticket, password or "", environment)
        yield {"KRB5CCNAME": name}


def _kinit(ticket: Ticket, password: str, environment: dict[str, str]) -> None:
    command = [ticket.command]
    if ticket.arguments:
        command.extend(shlex.split(ticket.arguments))
    elif ticket.forwardable:
        command.append("-f")
    command.append(ticket.principal)
    try:
        # a session of its own, so that the prompt is answered from the pipe and not asked on the terminal
        done = subprocess.run(  # noqa: S603  # no shell; the command is the operator's own setting
            command, input=password + "\n", capture_output=True, encoding="utf-8", errors="replace", env=environment, check=False,
            start_new_session=True, timeout=KINIT_SECONDS)
    except FileNotFoundError as error:
        raise ConnectionFailed(
            f"The Kerberos ticket for {ticket.principal} could not be had: {ticket.command} is not installed on the controller.",
            error_code="kerberos_ticket", hint="Install the MIT Kerberos client (krb5-user or krb5-workstation).") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConnectionFailed(
            f"The Kerberos ticket for {ticket.principal} could not be had: {type(error).__name__}.",
            error_code="kerberos_ticket") from error
    if done.returncode != 0:
        reason = done.stderr.strip().replace(password, "********") if password else done.stderr.strip()
        raise ConnectionFailed(
            f"The Kerberos ticket for {ticket.principal} was refused: {reason}", error_code="kerberos_ticket",
            hint="Check the user name (user@REALM in capitals), the password, the controller's clock and krb5.conf.")
