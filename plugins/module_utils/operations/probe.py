# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""First contact with a real host: what it answers to each open doubt, as one document without names (docs: playbook ``probe``)."""
from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader, CimWriter
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.facts import embedded
from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Deadline
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import ConnectionFailed, HypervError, Leftover
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import jobs, machines
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.machines import Machine
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.summary import MANAGEMENT_SERVICE
from ansible_collections.agentless.hyperv.plugins.module_utils.module import Call, Plan, Step
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.doubts import DOUBTS, Doubt, NothingToSee
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import system

FORMAT = 1
_GUID = re.compile(r"[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}")
_ACCOUNT = re.compile(r"[A-Za-z0-9._-]+\\[A-Za-z0-9._$-]+|[A-Za-z0-9._-]+@[A-Za-z0-9.-]+")
_PATH = re.compile(r"(?:[A-Za-z]:\\|\\\\)[^\s\"']+")
_EXPERIMENT_SECONDS = 120.0
_CHARACTERS = 'probe "quoted" <tag> & %PATH% äöü 日本 \U0001f4be'
"""Text whose way to a host and back is in doubt: markup, variables, other scripts."""


class Redactor:
    """Replaces what identifies a site by a keyed hash: equal within one document, meaningless outside of it."""

    def __init__(self, names: Iterable[str], key: bytes | None = None) -> None:
        self._key = key or secrets.token_bytes(32)
        known = sorted({name for name in names if name and len(name) > 1}, key=len, reverse=True)
        self._names = re.compile("|".join(re.escape(name) for name in known), re.IGNORECASE) if known else None

    def hashed(self, text: str) -> str:
        """The stand-in for one name."""
        return "#" + hmac.new(self._key, text.casefold().encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[:12]

    def clean(self, value: Any) -> Any:
        """A copy of ``value`` with every text, and every key, cleaned."""
        if isinstance(value, str):
            return self._clean_text(value)
        if isinstance(value, dict):
            return {self._clean_text(str(key)): self.clean(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.clean(item) for item in value]
        return value

    def _clean_text(self, text: str) -> str:
        for pattern in (_GUID, _PATH, _ACCOUNT, self._names):
            if pattern is not None:
                text = pattern.sub(lambda match: self.hashed(match.group()), text)
        return text


@dataclass(frozen=True)
class Experiment:
    """What writing and restoring the notes of the probe VM showed."""

    accepted: bool
    asynchronous: bool
    read_back_equal: bool
    restored: bool
    return_value: int | None

    def as_answer(self) -> dict[str, Any]:
        """The answer to D-13 and D-14."""
        return {"accepted": self.accepted, "asynchronous": self.asynchronous, "read_back_equal": self.read_back_equal,
                "restored": self.restored, "return_value": self.return_value}


def run(call: Call) -> dict[str, Any]:
    """The result of the task: ``probe`` is the document. Read-only unless ``probe_vm`` names a machine."""
    host = system.read_system(call.reader, call.clock)
    found = machines.read_machines(call.reader).machines
    redactor = Redactor([host.name, host.fqdn or "", host.domain or "", call.host.name, *(machine.name for machine in found)])
    entries = [look(doubt, call.reader) for doubt in DOUBTS]
    name = call.params["probe_vm"]
    target = machines.select(found, name=name, vm_id=None) if name else None
    if target is not None:
        _refuse(target)
    steps = (Step("write_notes", target.name, {"vm_id": target.vm_id}), Step("restore_notes", target.name)) if target is not None else ()
    document = {"format": FORMAT, "host": {
        "name": redactor.hashed(host.name), "build": host.build, "release": host.release, "version": host.version, "server": host.server,
        "clock_skew": round(host.clock_skew.total_seconds(), 1), "virtual_machines": len(found)}, "doubts": entries}

    def apply(writer: CimWriter) -> dict[str, Any]:
        if target is None:  # without steps apply is not called
            return {}
        answer = write_and_restore_notes(call, writer, target).as_answer()
        answered = [{**entry, "status": "answered", "answer": answer, "reason": None} if entry["id"] in ("D-13", "D-14") else entry
                    for entry in entries]
        return {"probe": redactor.clean({**document, "doubts": answered})}

    plan = Plan(steps, predicted={"probe": redactor.clean(document)})
    return call.conclude(plan, apply)


def look(doubt: Doubt, reader: CimReader) -> dict[str, Any]:
    """One entry: ``answered``, ``not_probed`` with the reason, or ``refused`` with the code."""
    entry: dict[str, Any] = {"id": doubt.doubt_id, "question": doubt.question, "status": "not_probed", "answer": None,
                             "reason": doubt.why_not or None}
    if doubt.look is None:
        return entry
    try:
        return {**entry, "status": "answered", "answer": doubt.look(reader)}
    except NothingToSee as nothing:
        return {**entry, "reason": str(nothing)}
    except ConnectionFailed:
        raise  # there is nobody left to ask
    except HypervError as error:
        return {**entry, "status": "refused", "reason": error.error_code}
    except ValueError as error:
        return {**entry, "status": "refused", "reason": f"unreadable answer: {error}"}


def _refuse(machine: Machine) -> None:
    if machine.replication_mode != "none" or machine.busy is not None or machine.settings is None:
        raise HypervError(f"{machine.name!r} cannot be the probe VM: it is replicated, busy or incomplete.",
                          error_code="probe_vm_unsuitable", hint="Name a throw-away virtual machine that nothing else works on.")


def write_and_restore_notes(call: Call, writer: CimWriter, machine: Machine) -> Experiment:
    """Change the notes of the VM with a minimal instance, read them back, and put the old ones back (D-13, D-14)."""
    if machine.settings is None:
        raise HypervError("The probe VM has no settings.", error_code="probe_vm_unsuitable")
    before, instance_id = machine.settings.notes or "", machine.settings.instance_id
    accepted, asynchronous, value = _set_notes(call, writer, instance_id, _CHARACTERS)
    equal = accepted and _notes(writer, machine) == _CHARACTERS
    restored = _set_notes(call, writer, instance_id, before)[0] and _notes(writer, machine) == before
    if not restored:
        raise HypervError(f"The notes of {machine.name!r} could not be put back.", error_code="cleanup_failed",
                          leftovers=[Leftover("notes", machine.vm_id, "settings of the virtual machine",
                                              "set its notes in Hyper-V Manager")])
    return Experiment(accepted, asynchronous, equal, restored, value)


def _set_notes(call: Call, writer: CimWriter, instance_id: str, notes: str) -> tuple[bool, bool, int | None]:
    settings = embedded("Msvm_VirtualSystemSettingData", {"InstanceID": instance_id, "Notes": (notes,)})
    answer = writer.invoke(MANAGEMENT_SERVICE, "ModifySystemSettings", {"SystemSettings": settings})
    if answer.return_value == jobs.STARTED:
        job = answer.out.reference("Job")
        if job is None:
            return False, True, answer.return_value
        try:
            jobs.wait(writer, job, what="changing the notes", clock=call.clock, deadline=Deadline(call.clock, _EXPERIMENT_SECONDS),
                      progress=call.progress)
        except jobs.JobFailed as error:
            return False, True, error.return_value
        return True, True, answer.return_value
    return answer.return_value == 0, False, answer.return_value


def _notes(reader: CimReader, machine: Machine) -> str | None:
    rows = machines.read_machines(reader).machines
    found = next((row for row in rows if row.vm_id == machine.vm_id), None)
    return None if found is None or found.settings is None else found.settings.notes or ""
