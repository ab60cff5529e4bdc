# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads many hosts at once outside of a play, for the inventory: no writer, one lane a host, one failure beside successes."""
from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader
from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Clock
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import ConnectionFailed, HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.lane import PywinrmLane
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.session import WsmanSession
from ansible_collections.agentless.hyperv.plugins.plugin_utils.connection import Connection
from ansible_collections.agentless.hyperv.plugins.plugin_utils.kerberos import ticket_cache

Read = TypeVar("Read")
_REFUSED = "wrong_credentials"


def read_fleet(hosts: Mapping[str, Connection], read: Callable[[CimReader, Clock], Read], clock: Clock,
               workers: int) -> dict[str, Read | HypervError]:
    """What ``read`` returned for each host, or why it did not.

    Hosts of one account share one Kerberos ticket. An account of a domain is tried on one host before the others, and nowhere
    else when it is refused there: every try counts against it.
    """
    answers: dict[str, Read | HypervError] = {}
    for group in _by_account(hosts):
        answers |= _read_group(group, read, clock, workers)
    return answers


def _by_account(hosts: Mapping[str, Connection]) -> Iterator[dict[str, Connection]]:
    groups: dict[object, dict[str, Connection]] = {}
    for name, connection in hosts.items():
        key = (connection.ticket, connection.endpoint.username, connection.endpoint.password)
        groups.setdefault(key, {})[name] = connection
    yield from groups.values()


def _read_group(group: Mapping[str, Connection], read: Callable[[CimReader, Clock], Read], clock: Clock,
                workers: int) -> dict[str, Read | HypervError]:
    answers: dict[str, Read | HypervError] = {}
    names = list(group)
    some = group[names[0]]
    try:
        with ticket_cache(some.ticket, some.endpoint.password) as environment, _set(environment):
            if _is_of_domain(some.endpoint.username):
                first = answers[names[0]] = _read_one(group[names[0]], read, clock)
                names = names[1:]
                if isinstance(first, HypervError) and first.error_code == _REFUSED:
                    return answers | dict.fromkeys(names, _not_tried(next(iter(group))))
            answers |= _read_many({name: group[name] for name in names}, read, clock, workers)
    except HypervError as error:  # no ticket
        return {name: answers.get(name, error) for name in group}
    return answers


def _read_many(group: Mapping[str, Connection], read: Callable[[CimReader, Clock], Read], clock: Clock,
               workers: int) -> dict[str, Read | HypervError]:
    if not group:
        return {}
    with ThreadPoolExecutor(max_workers=max(1, min(workers, len(group)))) as pool:
        done: Sequence[Read | HypervError] = list(pool.map(lambda connection: _read_one(connection, read, clock), group.values()))
    return dict(zip(group, done, strict=True))


def _read_one(connection: Connection, read: Callable[[CimReader, Clock], Read], clock: Clock) -> Read | HypervError:
    lane = PywinrmLane(connection.endpoint, clock)
    try:
        session = WsmanSession(lane, clock, operation_timeout=connection.endpoint.operation_timeout)
        return read(CimReader(session, clock), clock)
    except HypervError as error:
        return error
    except Exception as error:  # noqa: BLE001  # a defect of ours that one host brings to light must not hide the others
        return HypervError(f"A defect of agentless.hyperv: {type(error).__name__}: {error}.", error_code="internal_error")
    finally:
        lane.close()


@contextmanager
def _set(environment: Mapping[str, str]) -> Iterator[None]:
    """Environment variables for all threads of a group; a lane of its own would set them for the others, too."""
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _is_of_domain(user: str | None) -> bool:
    return bool(user) and ("@" in str(user) or "\\" in str(user))


def _not_tried(first: str) -> HypervError:
    return ConnectionFailed(
        f"It was not asked, since its account was refused by {first} and every try counts against it.",
        error_code="wrong_credentials", hint="Check the name and the password of the account, and whether it is locked.")
