# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which VM is protected by which policy. A function of the inventory and of the facts; names of VMs are only compared."""
from __future__ import annotations

DOCUMENTATION = r"""
name: backup_plan
short_description: Assign virtual machines to backup policies
version_added: 0.1.0
description:
  - Says which virtual machine of a host is protected by which policy, with one task for each policy.
  - Everything that is wrong with the policies and entries is listed, whether or not a virtual machine is concerned, so that nothing is
    begun with half a plan.
  - A password is never part of the plan, which may be shown and kept.
author:
  - The agentless.hyperv authors (@agentless)
positional: _input, entries
options:
  _input:
    description:
      - The virtual machines, as RV(agentless.hyperv.hyperv_vm_info#module:vms). Only their C(vm_id), C(name), C(notes),
        C(replication_mode) and C(state) are used.
      - A replica is left out, whatever matches it, since its primary is what is protected. So one list of names serves both hosts of
        a pair. One that runs, after a failover, is not left out.
      - A machine whose notes bear the mark of a restore drill or of a test failover goes again soon, and is left out whatever matches it.
    type: list
    elements: dict
    required: true
  entries:
    description:
      - Names, GUIDs, or dictionaries with C(name) or C(vm_id), which takes precedence, and C(policy). The first that matches wins.
      - Names are compared without case. C(*) stands for any characters and C(?) for one. V(all) is the same as V(*).
      - The policy V(none) leaves a virtual machine out.
    type: raw
    required: true
  policies:
    description: Name to policy. What a policy leaves out comes from O(defaults).
    type: dict
    default: {}
  default_policy:
    description: Policy of the entries that name none. V(default) is O(defaults) alone, unless O(policies) has one of this name.
    type: str
    default: default
  defaults:
    description: What every policy has unless it says otherwise.
    type: dict
    default: {}
  missing:
    description:
      - What a name or a GUID comes to that no host has. V(fail) makes it a failed entry, V(tell) only lists it in RV(_value.missing).
    type: str
    choices: [fail, tell]
    default: fail
  hooks:
    description:
      - Virtual machines that are protected alone, between two files of tasks. Dictionaries with C(name) or C(vm_id), as in O(entries), and
        C(before) or C(after). The first that matches wins.
    type: list
    elements: dict
    default: []
  elsewhere:
    description: Virtual machines of other hosts. A name that is not on this host is missing only when it is not among these either.
    type: list
    elements: dict
    default: []
"""

EXAMPLES = r"""
- name: Decide
  ansible.builtin.set_fact:
    backup_decided: "{{ facts.vms | agentless.hyperv.backup_plan(backup_vms, policies=backup_policies, default_policy='gold') }}"
  vars:
    backup_policies:
      gold: {destination: 'E:\Backup', keep: {daily: 7}}
    backup_vms:
      - {name: 'scratch*', policy: none}
      - '*'
"""

RETURN = r"""
_value:
  description: The plan.
  type: dict
  contains:
    problems: {description: What is wrong with the policies and entries., type: list, elements: str, returned: always}
    tasks:
      description: What to do for each policy, in the order of the entries.
      type: list
      elements: dict
      returned: always
      contains:
        policy: {description: Name of the policy., type: str, returned: always}
        method: {description: Its method., type: str, returned: always}
        options:
          description: Its other values, without those that are not set, that mean nothing to the method, and without C(run_as_password).
          type: dict
          returned: always
        names:
          description: GUIDs, and the names that no virtual machine has or that several have.
          type: list
          elements: str
          returned: always
        vms: {description: GUIDs and names of its virtual machines., type: list, elements: dict, returned: always}
        number: {description: Its place among the tasks., type: int, returned: always}
        hooks: {description: "C(before) and C(after), when the task is of one virtual machine with hooks.", type: dict, returned: always}
    unavailable:
      description: "Tasks of the same form without C(number), whose method is V(backup), which is not available yet."
      type: list
      elements: dict
      returned: always
    missing:
      description: Names and GUIDs of entries that no virtual machine of this host has.
      type: list
      elements: str
      returned: always
    unprotected: {description: Virtual machines that no entry matches., type: list, elements: dict, returned: always}
    left_out:
      description:
        - Virtual machines of the policy V(none), replicas, and those that a restore drill or a test failover of this collection has made.
      type: list
      elements: dict
      returned: always
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.agentless.hyperv.plugins.module_utils.protection import (
    freshness,
    naming,
    replica_marks,
    replica_policy,
    restore_marks,
    retention,
)
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.report_facts import REPLICAS

ACCOUNT_OPTIONS = frozenset({"run_as_user", "run_as_password"})
_COPYING = frozenset({"destination", "max_age", "rpo", "run_id", "keep", "timezone", "verify", "timeout", "host_limit", "volume_limit",
                      "target_limit", "target_wait", "prune_from", "prune_destination", "run_as", *ACCOUNT_OPTIONS})
_LEVELS = frozenset({"consistency", "consistency_fallback"})
TAKES: Mapping[str, frozenset[str]] = {
    "vss_copy": _COPYING | _LEVELS | {"vss_wait", "writers", "csv_any_node"},
    "live_copy": _COPYING | {"accept_inconsistent"},
    "export": _COPYING | _LEVELS,
    "checkpoint": frozenset({"checkpoint_name", "kind", "expires_after", "notes", "min_free_percent", "run_id", "timeout"}),
    "replica": frozenset({"max_age", "rpo"}),
}
"""Methods and what a policy can say of each. Anything else means nothing: refused in a policy, left out when it comes from the variables
of the role."""
_NEEDS = {**dict.fromkeys(("vss_copy", "live_copy", "export"), ("destination",)), "checkpoint": ("checkpoint_name", "expires_after")}
AVAILABLE = tuple(TAKES)
LATER = ("backup",)
"""There is no module for increments yet."""
DEFAULT = "default"
LEAVE_OUT = "none"
POLICY_SPEC: dict[str, Any] = {
    "method": {"type": "str", "choices": [*AVAILABLE, *LATER], "default": "vss_copy"},
    "destination": {"type": "str"},
    "max_age": {"type": "str"},
    "rpo": {"type": "str"},
    "run_id": {"type": "str"},
    "keep": {"type": "dict", "options": {rule: {"type": "int"} for rule in retention.RULES}},
    "timezone": {"type": "str"},
    "consistency": {"type": "str", "choices": ["application", "crash", "image"]},
    "consistency_fallback": {"type": "str", "choices": ["fail", "crash", "image"]},
    "verify": {"type": "str", "choices": ["none", "size", "chain", "sha256"]},
    "timeout": {"type": "int"},
    "vss_wait": {"type": "int"},
    "writers": {"type": "str", "choices": ["none", "hyperv"]},
    "csv_any_node": {"type": "bool"},
    "host_limit": {"type": "int"},
    "volume_limit": {"type": "int"},
    "target_limit": {"type": "int"},
    "target_wait": {"type": "int"},
    "accept_inconsistent": {"type": "bool"},
    "checkpoint_name": {"type": "str"},
    "kind": {"type": "str", "choices": ["production_only", "production", "standard"]},
    "expires_after": {"type": "str"},
    "notes": {"type": "str"},
    "min_free_percent": {"type": "int"},
    "prune_from": {"type": "str"},
    "prune_destination": {"type": "str"},
    "run_as": {"type": "str", "choices": ["system", "account", "session"]},
    "run_as_user": {"type": "str"},
    "run_as_password": {"type": "str", "no_log": True},
}
"""What a policy can say; the values other than ``method`` and ``rpo``, which is for reports, are options of the module of the method."""
SECRETS = frozenset({"run_as_password"})
"""Never part of a plan: it is a fact, and the item of a loop, and both are shown."""

_UNFIT = {"vss_copy": ("chain",), "live_copy": ("chain", "sha256"), "export": ("none",)}
"""Ways to verify that a method does not have."""
_MOST_SLOTS = 32
"""As the modules have it; a filter knows nothing of hosts."""
_GUID = re.compile(r"\{?([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\}?\Z", re.IGNORECASE)


@dataclass(frozen=True)
class Entry:
    """One entry: a pattern for names (or a GUID) or for GUIDs, and the name of its policy."""

    text: str
    by_id: bool
    policy: str

    @property
    def literal(self) -> bool:
        """True when it means one VM."""
        return not set("*?") & set(self.text) and not self._all

    @property
    def _all(self) -> bool:
        return not self.by_id and self.text.strip().casefold() == "all"

    def matcher(self) -> Callable[[Mapping[str, Any]], bool]:
        """A function that says whether a VM is meant."""
        guid = _GUID.match(self.text.strip())
        if guid:
            wanted = guid.group(1).casefold()
            return lambda vm: vm["vm_id"].casefold() == wanted or (not self.by_id and vm["name"].casefold() == self.text.casefold())
        pattern = re.compile(_expression("*" if self._all else self.text), re.DOTALL)
        key = "vm_id" if self.by_id else "name"
        return lambda vm: pattern.fullmatch(vm[key].casefold()) is not None


@dataclass
class Task:
    """One policy and its VMs. ``names``: what the module is told; ``vms``: what is known of them."""

    policy: str
    method: str
    options: dict[str, Any]
    names: list[str] = field(default_factory=list)
    vms: list[dict[str, Any]] = field(default_factory=list)
    hooks: dict[str, str] = field(default_factory=dict)

    def as_data(self) -> dict[str, Any]:
        """For the playbook."""
        return {"policy": self.policy, "method": self.method, "options": self.options, "names": self.names, "vms": self.vms,
                "hooks": self.hooks}

    def split(self, hooks: Sequence[Hook]) -> list[Task]:
        """The task without the VMs that have hooks, and one more for each of these, in the place of the first. Where nothing is done to
        a VM, nothing has to be done around it."""
        if self.method == "replica":
            return [self]
        alone = {vm["vm_id"]: found for vm in self.vms if vm["vm_id"] and (found := next((one for one in hooks if one.means(vm)), None))}
        rest = Task(self.policy, self.method, self.options, [name for name in self.names if name not in alone],
                    [vm for vm in self.vms if vm["vm_id"] not in alone])
        ones = [Task(self.policy, self.method, self.options, [vm["vm_id"]], [vm], alone[vm["vm_id"]].files)
                for vm in self.vms if vm["vm_id"] in alone]
        return [*([rest] if rest.vms else []), *ones]


@dataclass(frozen=True)
class Hook:
    """What runs on the controller before and after the protection of the VMs that an entry means: files of tasks."""

    entry: Entry
    files: dict[str, str]

    def means(self, vm: Mapping[str, Any]) -> bool:
        """True for a VM that has these hooks."""
        return self.entry.matcher()(vm)


def _expression(pattern: str) -> str:
    """A pattern as a regular expression for text without case."""
    known = {"*": ".*", "?": "."}
    return "".join(known.get(char) or re.escape(char) for char in re.sub(r"\*+", "*", pattern.casefold()))


def _label(vm: Mapping[str, Any]) -> dict[str, Any]:
    return {"vm_id": vm["vm_id"], "name": vm["name"]}


def _is_none_of_its_own(vm: Mapping[str, Any]) -> bool:
    """True for a replica, and for a machine that another job of ours has made for a proof, and takes away again. A replica that runs has
    taken over, and nobody protects it yet: that is not passed over."""
    mode = vm.get("replication_mode")
    if mode in REPLICAS and (mode == "test_replica" or vm.get("state") != "running"):
        return True
    mark = restore_marks.mark_of(vm["vm_id"], vm.get("notes"))
    return (mark is not None and mark.mode == restore_marks.DRILL) or replica_marks.is_test(vm.get("notes"), vm["vm_id"])


def _plain(value: Any) -> Any:
    """Containers of ansible as those of Python, since the validator copies what it is given."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def _set(values: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is empty: an empty value means that it is not set."""
    return {key: value for key, value in values.items() if value is not None and value not in ("", {})}


# -- reading what the inventory says -----------------------------------------------------------------------------------

def read_entries(given: Any, default_policy: str) -> tuple[list[Entry], list[str]]:
    """The entries and what is wrong with them."""
    listed = given if isinstance(given, (list, tuple)) else [] if given is None else [given]
    entries, problems = [], []
    for number, item in enumerate(listed, 1):
        where = f"backup_vms, entry {number}"
        values = item if isinstance(item, Mapping) else {"name": item}
        unknown = sorted(str(key) for key in values if key not in ("name", "vm_id", "policy"))
        if unknown:
            problems.append(f"{where}: {', '.join(unknown)} is not known; there are name, vm_id and policy.")
        by_id = values.get("vm_id") is not None
        text = values["vm_id"] if by_id else values.get("name")
        if isinstance(text, bool) or not isinstance(text, (str, int, float)) or not str(text).strip():
            problems.append(f"{where}: name or vm_id must be a text.")
            continue
        text = str(text)
        if by_id and not re.search(r"[*?]", text) and not _GUID.match(text.strip()):
            problems.append(f"{where}: vm_id is neither a GUID nor a pattern.")
            continue
        policy = values.get("policy")
        entries.append(Entry(text, by_id, str(default_policy if policy in (None, "") else policy)))
    return entries, problems


def read_hooks(given: Any) -> tuple[list[Hook], list[str]]:
    """The hooks and what is wrong with them; the first that means a VM is its hook."""
    hooks, problems = [], []
    for number, item in enumerate(given if isinstance(given, (list, tuple)) else [given] if given else [], 1):
        where = f"backup_hooks, entry {number}"
        values = _plain(item) if isinstance(item, Mapping) else {}
        own = {key: value for key, value in values.items() if key in ("name", "vm_id")}
        files = {key: str(values[key]) for key in ("before", "after") if values.get(key)}
        unknown = sorted(str(key) for key in values if key not in ("name", "vm_id", "before", "after"))
        entries, wrong = read_entries([own], DEFAULT)
        if unknown or wrong or not files:
            problems.append(f"{where}: it must have name or vm_id, and before or after, and nothing else.")
        else:
            hooks.append(Hook(entries[0], files))
    return hooks, problems


def read_policy(name: str, values: Any, defaults: Mapping[str, Any], *, used: bool) -> tuple[Task, list[str]]:
    """A policy as a task without VMs, and what is wrong with it. ``used``: an entry names it, so it needs all
    that its method needs."""
    if not isinstance(values, Mapping):
        return Task(name, AVAILABLE[0], {}), [f"The policy {name} must be a dictionary."]
    own = {key: value for key, value in _plain(values).items() if value is not None}
    validated = ArgumentSpecValidator(POLICY_SPEC).validate(_set({**_for_every_policy(defaults), **own}))
    problems = [f"The policy {name}: {text.rstrip('.')}." for text in validated.error_messages]
    options = _set(validated.validated_parameters)
    method = str(options.pop("method", AVAILABLE[0]))
    taken = TAKES.get(method, frozenset(POLICY_SPEC))
    options, said = _of(taken, options), _set(own)
    if method == "replica":  # the age of copies, which the role has a variable for, is none of a replica
        options["max_age"] = options["max_age"] if "max_age" in said else replica_policy.USUAL_MAX_AGE
    if not problems:
        found = [f"{key} means nothing with the method {method}" for key in sorted(set(said) - taken - {"method"})]
        found += (*_meanings(options), *_fitting(method, options, _of(taken, said)))
        problems += [f"The policy {name}: {text}." for text in found]
        if used:
            problems += [_missing(name, method, key) for key in _NEEDS.get(method, ()) if key not in options]
    if "keep" in options:
        options["keep"] = _set(options["keep"])
    if options.get("verify") in _UNFIT.get(method, ()):
        del options["verify"]
    account = frozenset() if options.get("run_as") == "account" else ACCOUNT_OPTIONS
    return Task(name, method, {key: value for key, value in options.items() if key not in account | SECRETS}), problems


def _of(taken: frozenset[str], values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key in taken}


def _missing(name: str, method: str, key: str) -> str:
    if key == "destination":
        return f"The policy {name} has no destination, and backup_destination is not set."
    return f"The policy {name} has no {key}, which the method {method} needs."


def _for_every_policy(defaults: Mapping[str, Any]) -> dict[str, Any]:
    """What a policy takes from the variables of the role: never the acceptance of an inconsistent copy."""
    return {key: value for key, value in _set(_plain(defaults)).items() if key != "accept_inconsistent"}


def _meanings(options: Mapping[str, Any]) -> Iterable[str]:
    """What is of the right type and means nothing."""
    try:
        for age in ("max_age", "rpo", "expires_after"):
            if age in options:
                freshness.parse_age(options[age])
        retention.parse_keep(_set(options.get("keep", {})))
        retention.zone(options.get("timezone", "UTC"))
    except ValueError as error:
        yield str(error).rstrip(".")
    if "run_id" in options and not naming.is_run_id(options["run_id"]):
        yield f"run_id {options['run_id']!r} may have letters, digits and hyphens, at most 40"
    yield from (f"{key} must be between 0 and {_MOST_SLOTS}" for key in ("host_limit", "volume_limit", "target_limit")
                if not 0 <= options.get(key, 0) <= _MOST_SLOTS)
    yield from (f"{key} must be more than 0" for key in ("timeout", "vss_wait", "target_wait") if options.get(key, 1) < (key == "timeout"))


def _fitting(method: str, options: Mapping[str, Any], own: Mapping[str, Any]) -> Iterable[str]:
    """What does not go together. ``own``: what the policy says itself, without the variables of the role."""
    if method == "live_copy" and options.get("accept_inconsistent") is not True:
        yield "a live copy is inconsistent; the policy must say accept_inconsistent: true itself"
    if method == "live_copy" and own.get("verify") == "sha256":
        yield "verify: sha256 is not possible with the method live_copy, since the disk changes meanwhile"
    elif own.get("verify") in _UNFIT.get(method, ()):
        yield f"verify: {own['verify']} means nothing with the method {method}"
    if "prune_from" in options and not _set(options.get("keep", {})):
        yield "prune_from needs keep, which says what goes"
    if "prune_destination" in options and "prune_from" not in options:
        yield "prune_destination means nothing without prune_from"
    if options.get("run_as") == "account":
        missing = sorted(ACCOUNT_OPTIONS - set(options), reverse=True)
        if missing:
            yield f"run_as is account, and {' and '.join(missing)} is not set"
    elif ACCOUNT_OPTIONS & set(own):
        yield f"{' and '.join(sorted(ACCOUNT_OPTIONS & set(own), reverse=True))} is set, and run_as is not account"


def read_policies(given: Any, defaults: Mapping[str, Any], entries: Sequence[Entry]) -> tuple[dict[str, Task], list[str]]:
    """All policies and what is wrong with them, unknown ones included."""
    if not isinstance(given, Mapping):
        return {}, ["backup_policies must be a dictionary of policies by name."]
    named = {str(name): values for name, values in given.items()}
    problems = [f"The name {LEAVE_OUT} cannot be that of a policy: it leaves virtual machines out."] if LEAVE_OUT in named else []
    used = {entry.policy for entry in entries}
    found = {}
    for name, values in {DEFAULT: {}, **named}.items():
        if name == DEFAULT and name not in used and name not in named:
            continue
        found[name], wrong = read_policy(name, values, defaults, used=name in used)
        problems += wrong
    problems += [f"The policy {name} is not in backup_policies." for name in sorted(used - set(found) - {LEAVE_OUT})]
    return found, problems


# -- the plan ----------------------------------------------------------------------------------------------------------

def make_plan(vms: Sequence[Mapping[str, Any]], entries: Sequence[Entry], policies: Mapping[str, Task],
              elsewhere: Sequence[Mapping[str, Any]], *, missing_fails: bool = True, hooks: Sequence[Hook] = ()) -> dict[str, Any]:
    """Give every VM to the first entry that matches it."""
    left_out = [_label(vm) for vm in vms if _is_none_of_its_own(vm)]
    unclaimed = {vm["vm_id"]: _label(vm) for vm in vms if not _is_none_of_its_own(vm)}
    missing: list[str] = []
    tasks: dict[str, Task] = {}
    for entry in entries:
        matches = entry.matcher()
        hits = [label for label in unclaimed.values() if matches(label)]
        gone = entry.literal and not hits and not any(matches(vm) for vm in vms)
        for label in hits:
            del unclaimed[label["vm_id"]]
        if entry.policy == LEAVE_OUT:
            left_out += hits
            continue
        if gone:
            if entry.text in missing:
                continue
            missing.append(entry.text)
            if not missing_fails or any(matches(vm) for vm in elsewhere):
                continue
            hits = [{"vm_id": None, "name": entry.text}]
        if not hits:
            continue
        base = policies[entry.policy]
        task = tasks.setdefault(entry.policy, Task(base.policy, base.method, base.options))
        task.vms += hits
        # a name that several have, or none, is the module's to refuse, with its reason
        task.names += [entry.text] if gone or (entry.literal and len(hits) > 1) else [label["vm_id"] for label in hits]
    ready = [part for task in tasks.values() if task.method in AVAILABLE for part in task.split(hooks)]
    later = [task.as_data() for task in tasks.values() if task.method not in AVAILABLE]
    numbered = [{**part.as_data(), "number": number} for number, part in enumerate(ready)]
    return {"tasks": numbered, "unavailable": later, "missing": missing, "unprotected": list(unclaimed.values()), "left_out": left_out}


def backup_plan(vms: Any, entries: Any, policies: Any = None, default_policy: str = DEFAULT, defaults: Any = None,
                elsewhere: Any = (), missing: str = "fail", hooks: Any = None) -> dict[str, Any]:
    """The filter. With problems nothing is planned. Raises AnsibleFilterError when the VMs are not what hyperv_vm_info returns."""
    for listed in (vms, elsewhere):
        if not isinstance(listed, (list, tuple)) or not all(isinstance(vm, Mapping) and {"vm_id", "name"} <= set(vm) for vm in listed):
            raise AnsibleFilterError("backup_plan needs virtual machines with vm_id and name.")
    default = str(default_policy or DEFAULT)
    read, problems = read_entries(entries, default)
    known, wrong = read_policies({} if policies is None else policies, defaults or {}, read)
    own_hooks, more = read_hooks(hooks)
    problems += [*wrong, *more]
    if default not in (DEFAULT, LEAVE_OUT) and default not in known and default not in {entry.policy for entry in read}:
        problems.append(f"The policy {default} is not in backup_policies.")
    if problems:
        return {"problems": problems, **make_plan((), (), {}, ())}
    return {"problems": [], **make_plan(vms, read, known, elsewhere, missing_fails=missing != "tell", hooks=own_hooks)}


class FilterModule:
    """Filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name to function."""
        return {"backup_plan": backup_plan}
