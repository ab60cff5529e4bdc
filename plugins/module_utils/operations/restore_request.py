# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a task of ``hyperv_restore`` asks for, checked before anything is read."""
from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.identity import as_guid
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import retention_options, run_as
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.run_as import Identity
from ansible_collections.agentless.hyperv.plugins.module_utils.protection import naming
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.restore_choice import Wanted
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.restore_marks import DRILL, IN_PLACE, NEW
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.retention import Keep

LONGEST_NAME = 100
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True)
class Request:
    """``wanted`` with a ``destination``, or ``folder``. ``location`` is where the files go, empty for a deep check. ``networks`` maps names
    of switches, in lower case, to switches of this host; adapters of all others come up disconnected."""

    wanted: Wanted | None
    destination: str
    folder: str | None
    accept_unproved: bool
    mode: str
    new_name: str | None
    location: str
    networks: Mapping[str, str]
    unregister: bool
    verify: str
    force: bool
    start: bool
    heartbeat: bool
    heartbeat_timeout: float
    deep_check: bool
    evidence: bool
    evidence_keep: Keep
    timezone: tzinfo
    run_id: str
    identity: Identity

    @property
    def drill(self) -> bool:
        """True when what is restored is removed again."""
        return self.mode == DRILL

    @property
    def writes_evidence(self) -> bool:
        """True for a drill that leaves evidence at a destination."""
        return self.drill and self.evidence and bool(self.destination) and not self.deep_check

    @property
    def runs(self) -> bool:
        """True when the machine is started."""
        return self.start or self.heartbeat or self.drill


def read(params: Mapping[str, Any]) -> Request:
    """The request. Raises HypervError ``invalid_options`` and its kin, each with what to change."""
    mode, folder = params["mode"], params["folder"]
    run_id = params["run_id"] or secrets.token_hex(6)
    if not naming.is_run_id(run_id):
        raise HypervError(f"run_id {run_id!r} is not one.", error_code="invalid_run_id",
                          hint="Letters, digits and hyphens, at most 40, no hyphen first.")
    keep, timezone = retention_options.read(params["evidence_keep"], params["timezone"])
    location = "" if params["deep_check"] else _location(params["location"])
    request = Request(
        wanted=None if folder else _wanted(params), destination=_path(params["destination"] or ""),
        folder=_path(folder) if folder else None, accept_unproved=params["accept_unproved"], mode=mode, new_name=params["new_name"],
        location=location, networks={str(key).casefold(): str(value) for key, value in (params["networks"] or {}).items()},
        unregister=params["old_vm"] == "unregister", verify=params["verify"], force=params["force"], start=params["start"],
        heartbeat=params["wait_for_heartbeat"], heartbeat_timeout=float(params["heartbeat_timeout"]), deep_check=params["deep_check"],
        evidence=params["evidence"], evidence_keep=keep, timezone=timezone, run_id=run_id, identity=run_as.read(params))
    _check(request)
    return request


def _check(request: Request) -> None:
    if request.mode == NEW and not request.new_name and not request.deep_check:
        raise _invalid("mode new restores under another name", "Say which in new_name.")
    if request.mode == IN_PLACE and request.new_name:
        raise _invalid("mode in_place keeps the name of the virtual machine", "Leave new_name out, or use mode new.")
    if request.unregister and request.mode != IN_PLACE:
        raise _invalid("old_vm unregister belongs to mode in_place", "Leave it out: nothing is replaced otherwise.")
    if request.drill and request.networks:
        raise _invalid("a drill is isolated", "Leave networks out: every adapter comes up disconnected.")
    name = request.new_name
    if name is not None and (not name.strip() or len(name) > LONGEST_NAME or _CONTROL.search(name)):
        raise _invalid(f"new_name {name!r} cannot be the name of a virtual machine",
                       f"Printable characters, at most {LONGEST_NAME}.")


def _invalid(what: str, hint: str) -> HypervError:
    return HypervError(f"The options do not go together: {what}.", error_code="invalid_options", hint=hint)


def _path(text: str) -> str:
    path = text.replace("/", "\\")
    return path.rstrip("\\") if len(path) > 3 else path


def _location(text: str | None) -> str:
    if not text:
        raise _invalid("location is missing", "Say in which folder of the host the restored virtual machine shall live.")
    path = _path(text)
    problem = naming.problem_with_destination(path)
    if problem is None and path.startswith("\\\\"):
        problem = "it is a share, and a virtual machine is restored to a volume of its host"
    if problem is not None:
        raise HypervError(f"The location {text!r} cannot be used: {problem}.", error_code="invalid_location")
    return path


def _wanted(params: Mapping[str, Any]) -> Wanted:
    vm_id = None
    if params["vm_id"]:
        vm_id = as_guid(params["vm_id"])
        if vm_id is None:
            raise HypervError(f"vm_id {params['vm_id']!r} is not a GUID.", error_code="invalid_vm_id")
    return Wanted(params["name"], vm_id, params["source_host"], params["backup_id"], _time(params["not_after"]))


def _time(text: str | None) -> datetime | None:
    """A time in ISO 8601; one without a zone is UTC, as everywhere in results."""
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise HypervError(f"not_after {text!r} is no time.", error_code="invalid_time",
                          hint="ISO 8601, for example 2026-11-03T22:00:00Z.") from error
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found
