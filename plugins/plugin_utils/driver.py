# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one driver of all modules: runs a module's ``run(call)`` in process, over the connection of the task.

It takes the connection's options from the task, validates the arguments, relays progress, takes secrets out of everything that
leaves it, and turns errors into *failed* or *unreachable*. A module knows nothing of ansible; this file knows nothing of Hyper-V.
"""
from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, cast

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.module_utils.common.arg_spec import ModuleArgumentSpecValidator
from ansible.module_utils.common.parameters import remove_values
from ansible.module_utils.errors import UnsupportedError
from ansible.plugins.action import ActionBase
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader, CimWriter
from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Clock, SystemClock
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import ConnectionFailed, HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.module import Call, Host
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.shown import shown
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.session import WsmanSession
from ansible_collections.agentless.hyperv.plugins.plugin_utils import connection as connections
from ansible_collections.agentless.hyperv.plugins.plugin_utils.kerberos import kerberos_available, ticket_cache
from ansible_collections.agentless.hyperv.plugins.plugin_utils.peer import peer_connection
from ansible_collections.agentless.hyperv.plugins.plugin_utils.worker_lane import WorkerLane

TRACEBACK_VERBOSITY = 3
"""From -vvv on, an expected failure carries the place it came from, too."""


class HypervAction(ActionBase):
    """The action plugin of every module of this collection.

    ``MODULE`` is the module: ``ARGUMENT_SPEC``, ``RULES`` and ``run(call)``. It is imported together with the action plugin, which ansible
    loads once in the parent process: what a worker imports is compiled again for every host, since collections have no byte code.
    """

    MODULE: Any = None
    _requires_connection = False
    _supports_async = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Run the module; returns the task's result. Raises ``AnsibleActionFail`` for what no host has to be asked for."""
        variables = dict(task_vars or {})
        self._refuse_what_cannot_work()
        result: dict[str, Any] = super().run(tmp, variables)
        module = self.MODULE
        arguments = _validate(module, self._task.args)
        runner = _Runner(self, variables, arguments.secrets)
        outcome = runner.run(module.run, arguments.values)
        for warning in arguments.warnings:
            outcome.setdefault("warnings", []).append(warning)
        result.update(outcome)
        result["invocation"] = {"module_args": arguments.values}
        return cast("dict[str, Any]", remove_values(result, runner.secrets)) if holds_any(result, runner.secrets) else result

    def _refuse_what_cannot_work(self) -> None:
        action = self._task.action
        if self._task.async_val:
            raise AnsibleActionFail(
                f"{action} does not support async: it runs on the controller, and ansible would look for its job on the Windows host. "
                "Long work goes on by itself on the host; give the task a larger timeout instead.")
        if self._connection.become is not None:
            raise AnsibleActionFail(
                f"{action} does not support become: it asks the host with the rights of the connection's account. "
                "Set become: false for this task and connect with an account that has the rights.")


class _Arguments:
    """The validated arguments of a task."""

    def __init__(self, values: dict[str, Any], secrets: set[str], warnings: list[str]) -> None:
        self.values = values
        self.secrets = secrets
        self.warnings = warnings


def _validate(module: Any, given: Mapping[str, Any]) -> _Arguments:
    validator = ModuleArgumentSpecValidator(module.ARGUMENT_SPEC, **getattr(module, "RULES", {}))
    checked = validator.validate(dict(given))
    secrets = {str(value) for value in checked._no_log_values}  # the validator has no public name for them
    problems = list(checked.errors.errors)
    if problems:
        messages = [f"Unsupported parameters: {error.msg}" if isinstance(error, UnsupportedError) else error.msg for error in problems]
        raise AnsibleActionFail(str(remove_values("; ".join(messages), secrets)))
    warnings = [f"{item['option']} has the alias {item['alias']}, and both are set" for item in checked._warnings]
    return _Arguments(checked.validated_parameters, secrets, warnings)


class _Runner:
    """One execution: owns the lanes, the secrets and the mapping of errors."""

    def __init__(self, action: HypervAction, variables: Mapping[str, Any], secrets: set[str], clock: Clock | None = None) -> None:
        self._action = action
        self._variables = variables
        self._clock = clock or SystemClock()
        self._stack = ExitStack()
        self._hosts: list[Host] = []
        self._warnings: list[str] = []
        self.secrets = set(secrets)

    def run(self, function: Callable[[Call], dict[str, Any]], params: dict[str, Any]) -> dict[str, Any]:
        """Call the module's function; its result, with warnings, or the result of a failure."""
        try:
            with self._stack:
                result = function(self._call(params))
        except HypervError as error:
            result = self._failure(error)
        except AnsibleError:
            raise
        except Exception as error:  # noqa: BLE001  # a defect of ours must end as a failed task that says so, with its secrets taken out
            result = {
                "failed": True, "error_code": "internal_error",
                "msg": f"A defect of agentless.hyperv: {type(error).__name__}: {error}. Please report it with the output of -vvv.",
                "exception": traceback.format_exc(),
            }
        if self._warnings:
            result.setdefault("warnings", []).extend(self._warnings)
        return result

    def _call(self, params: dict[str, Any]) -> Call:
        action = self._action
        name = str(action._task.delegate_to or self._variables.get("inventory_hostname", ""))
        return Call(
            params=params, host=self._open(name, action._connection), clock=self._clock,
            check_mode=bool(action._task.check_mode), progress=self._progress(name), warn=self._warn,
            open_peer=self._open_peer)

    def _open(self, name: str, plugin: Any) -> Host:
        described = connections.describe(plugin._load_name, plugin.get_option, kerberos_available())  # no public name
        self.secrets.update(described.secrets)
        environment = self._stack.enter_context(ticket_cache(described.ticket, described.endpoint.password))
        lane = WorkerLane(replace(described.endpoint, environment=environment), self._clock)
        self._stack.callback(lane.close)
        session = WsmanSession(lane, self._clock, operation_timeout=described.endpoint.operation_timeout)
        host = Host(name, CimReader(session, self._clock), lambda: CimWriter(session, self._clock))
        self._hosts.append(host)
        return host

    def _open_peer(self, inventory_name: str) -> Host:
        return self._open(inventory_name, peer_connection(self._action, self._variables, inventory_name))

    def _progress(self, name: str) -> Callable[[str], None]:
        silent = bool(self._action._task.no_log)
        display = self._action._display

        def show(message: str) -> None:
            if not silent:
                display.display(f"{name}: {shown(str(remove_values(message, self.secrets)))}")

        return show

    def _warn(self, message: str) -> None:
        if message not in self._warnings:
            self._warnings.append(message)

    def _failure(self, error: HypervError) -> dict[str, Any]:
        if isinstance(error, ConnectionFailed) and not any(host.touched for host in self._hosts):
            return {"unreachable": True, "msg": error.message, **error.as_result()}
        result = {"failed": True, "msg": error.message, **error.as_result()}
        if self._action._display.verbosity >= TRACEBACK_VERBOSITY:
            result["exception"] = traceback.format_exc()
        return result


def holds_any(result: object, secrets: Collection[str]) -> bool:
    """True when a secret is part of any value (keys do not count, as in ``remove_values``), or when a value is of an unknown kind.

    Looking is many times cheaper than taking out, and a result with the facts of a host has thousands of values and no secret.
    """
    if not secrets:
        return False
    found = re.compile("|".join(re.escape(secret) for secret in secrets)).search
    left: list[object] = [result]
    while left:
        value = left.pop()
        if isinstance(value, str):
            if found(value):
                return True
        elif value is None or isinstance(value, bool):
            continue
        elif isinstance(value, int | float):
            if found(str(value)):
                return True
        elif isinstance(value, dict):
            left.extend(value.values())
        elif isinstance(value, list):
            left.extend(value)
        else:
            return True
    return False
