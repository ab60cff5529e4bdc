# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which VM is protected by which policy, and what became of each."""
from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.agentless.hyperv.plugins.filter.backup_entries import backup_entries
from ansible_collections.agentless.hyperv.plugins.filter.backup_plan import LATER, POLICY_SPEC, backup_plan
from ansible_collections.agentless.hyperv.plugins.modules import hyperv_checkpoint, hyperv_export
from ansible_collections.agentless.hyperv.plugins.modules.hyperv_vss_copy import ARGUMENT_SPEC
from hypothesis import given
from hypothesis import strategies as st

GUID = "0A1B2C3D-0000-4000-8000-00000000000{}"
PASSWORD = "Vault-Pässwörd-7"
POLICIES = {"gold": {"destination": "E:\\Gold"}, "silver": {"destination": "E:\\Silver"}, "later": {"method": "backup"}}


def vms(*names: str) -> list[dict[str, str]]:
    return [{"vm_id": GUID.format(number), "name": name, "state": "running"} for number, name in enumerate(names)]


def planned(machines: list[dict[str, str]], entries: Any, **values: Any) -> dict[str, list[str]]:
    """Policy to the names that the module would be told, with the names of VMs in place of their GUIDs."""
    plan = backup_plan(machines, entries, values.pop("policies", POLICIES), **values)
    assert plan["problems"] == []
    names = {vm["vm_id"]: vm["name"] for vm in machines}
    return {task["policy"]: [names.get(name, f"<{name}>") for name in task["names"]] for task in (*plan["tasks"], *plan["unavailable"])}


@pytest.mark.parametrize(("entries", "wanted"), [
    ([{"name": "sql01", "policy": "gold"}, {"name": "*", "policy": "silver"}], {"gold": ["sql01"], "silver": ["SQL02", "web[1]", "a*b"]}),
    ([{"name": "SQL0?", "policy": "gold"}], {"gold": ["sql01", "SQL02"]}),
    ([{"name": "*", "policy": "gold"}, {"name": "sql01", "policy": "silver"}], {"gold": ["sql01", "SQL02", "web[1]", "a*b"]}),
    ([{"name": "web[1]", "policy": "gold"}], {"gold": ["web[1]"]}),
    ([{"name": "web[0-9]", "policy": "gold"}], {"gold": ["<web[0-9]>"]}),
    ([{"name": ".*", "policy": "gold"}], {}),
    ([{"name": "a*b", "policy": "gold"}], {"gold": ["a*b"]}),
    ([{"name": "***1*", "policy": "gold"}], {"gold": ["sql01", "web[1]"]}),
    ([{"vm_id": GUID.format(1).lower(), "policy": "gold"}], {"gold": ["SQL02"]}),
    ([{"vm_id": "{" + GUID.format(1) + "}", "name": "ignored", "policy": "gold"}], {"gold": ["SQL02"]}),
    ([{"vm_id": "*2", "policy": "gold"}], {"gold": ["web[1]"]}),
    ([{"name": GUID.format(0), "policy": "gold"}], {"gold": ["sql01"]}),
    ([{"name": "all", "policy": "gold"}], {"gold": ["sql01", "SQL02", "web[1]", "a*b"]}),
    ([{"name": "sql*", "policy": "none"}, {"name": "*", "policy": "gold"}], {"gold": ["web[1]", "a*b"]}),
    ([{"name": "none-such*", "policy": "gold"}], {}),
    ([{"name": "gone", "policy": "gold"}, {"name": "GONE", "policy": "gold"}], {"gold": ["<gone>", "<GONE>"]}),
    ([{"name": "sql01", "policy": "later"}], {"later": ["sql01"]}),
    ([], {}),
    (None, {}),
])
def test_the_first_entry_that_matches_wins(entries: Any, wanted: dict[str, list[str]]) -> None:
    assert planned(vms("sql01", "SQL02", "web[1]", "a*b"), entries) == wanted


@pytest.mark.parametrize(("mode", "state", "left_out"), [
    ("replica", "off", True), ("extended_replica", "off", True), ("test_replica", "running", True), ("primary", "running", False),
    ("replica", "running", False), ("none", "off", False)])
@pytest.mark.parametrize("entries", [["*"], ["sql01"], [GUID.format(0)]])
def test_replicas_are_left_out_unless_they_have_taken_over(entries: list[str], mode: str, state: str, left_out: bool) -> None:
    machines = [{**vms("sql01")[0], "replication_mode": mode, "state": state}]
    plan = backup_plan(machines, entries, POLICIES, "gold")
    assert ([vm["name"] for vm in plan["left_out"]], len(plan["tasks"])) == ((["sql01"], 0) if left_out else ([], 1))
    assert (plan["missing"], plan["unprotected"]) == ([], [])


@pytest.mark.parametrize("entries", ["sql01", ["sql01"], {"name": "sql01"}, [{"name": "sql01"}], ("SQL01",)])
def test_plain_entries_have_the_variables_as_their_policy(entries: Any) -> None:
    plan = backup_plan(vms("sql01", "web01"), entries, defaults={"destination": "E:\\Backup", "run_id": "", "keep": {}, "max_age": "20h"})
    assert plan == {
        "problems": [], "unavailable": [], "missing": [], "left_out": [], "unprotected": [{"vm_id": GUID.format(1), "name": "web01"}],
        "tasks": [{"number": 0, "policy": "default", "method": "vss_copy", "options": {"destination": "E:\\Backup", "max_age": "20h"},
                   "names": [GUID.format(0)], "vms": [{"vm_id": GUID.format(0), "name": "sql01"}], "hooks": {}}]}


def test_a_policy_says_more_than_the_variables() -> None:
    policies = {"gold": {"max_age": "", "keep": {"daily": "7", "last": 0}, "verify": None}}
    plan = backup_plan(vms("a"), "*", policies, "gold", {"destination": "E:\\B", "max_age": "20h", "keep": {"last": 2}, "verify": "size"})
    assert plan["tasks"][0]["options"] == {"destination": "E:\\B", "keep": {"daily": 7, "last": 0}, "verify": "size"}


def test_a_name_of_several_is_left_to_the_module() -> None:
    machines = vms("twin", "Twin", "x")
    both = [{"name": "twin", "policy": "gold"}, {"name": "*", "policy": "silver"}]
    assert planned(machines, both) == {"gold": ["<twin>"], "silver": ["x"]}
    assert planned(machines, [{"name": "twin*", "policy": "gold"}]) == {"gold": ["twin", "Twin"]}
    by_id = [{"vm_id": GUID.format(1), "policy": "silver"}, {"name": "twin", "policy": "gold"}]
    assert planned(machines, by_id) == {"silver": ["Twin"], "gold": ["twin"]}


def test_a_name_of_another_host_is_not_missing() -> None:
    entries = [{"name": "here", "policy": "gold"}, {"name": "there", "policy": "gold"}, {"name": "nowhere", "policy": "gold"}]
    plan = backup_plan(vms("here"), entries, POLICIES, elsewhere=[{"vm_id": GUID.format(7), "name": "THERE"}])
    assert plan["missing"] == ["there", "nowhere"]
    assert plan["tasks"][0]["names"] == [GUID.format(0), "nowhere"]
    assert plan["tasks"][0]["vms"][1] == {"vm_id": None, "name": "nowhere"}


@pytest.mark.parametrize(("values", "says"), [
    ({"entries": [{"name": "a", "policy": "bronze"}]}, ["The policy bronze is not in backup_policies."]),
    ({"entries": ["a"]}, ["The policy default has no destination, and backup_destination is not set."]),
    ({"entries": [], "default_policy": "bronze"}, ["The policy bronze is not in backup_policies."]),
    ({"entries": [True]}, ["backup_vms, entry 1: name or vm_id must be a text."]),
    ({"entries": [{"policy": "gold"}]}, ["backup_vms, entry 1: name or vm_id must be a text."]),
    ({"entries": [" "]}, ["backup_vms, entry 1: name or vm_id must be a text."]),
    ({"entries": [{"name": ["a"], "policy": "gold"}]}, ["backup_vms, entry 1: name or vm_id must be a text."]),
    ({"entries": [{"vm_id": "sql01", "policy": "gold"}]}, ["backup_vms, entry 1: vm_id is neither a GUID nor a pattern."]),
    ({"entries": [{"name": "a", "polcy": "gold", "policy": "gold"}]},
     ["backup_vms, entry 1: polcy is not known; there are name, vm_id and policy."]),
    ({"entries": [], "policies": ["gold"]}, ["backup_policies must be a dictionary of policies by name."]),
    ({"entries": [], "policies": {"gold": "E:\\"}}, ["The policy gold must be a dictionary."]),
    ({"entries": [], "policies": {"none": {}}}, ["The name none cannot be that of a policy: it leaves virtual machines out."]),
    ({"entries": [], "policies": {"x": {"max_age": "soon"}}}, ["The policy x: 'soon' is not an age such as 30m, 20h or 7d."]),
    ({"entries": [], "policies": {"x": {"run_id": "a/b"}}},
     ["The policy x: run_id 'a/b' may have letters, digits and hyphens, at most 40."]),
    ({"entries": [], "policies": {"x": {"timeout": 0}}}, ["The policy x: timeout must be more than 0."]),
    ({"entries": [], "policies": {"x": {"host_limit": 33, "volume_limit": -1, "target_limit": 32}}},
     ["The policy x: host_limit must be between 0 and 32.", "The policy x: volume_limit must be between 0 and 32."]),
    ({"entries": [{"name": "a", "policy": "x"}], "policies": {"x": {"destination": None}}},
     ["The policy x has no destination, and backup_destination is not set."]),
])
def test_problems_are_told_and_nothing_is_planned(values: dict[str, Any], says: list[str]) -> None:
    plan = backup_plan(vms("a"), values["entries"], values.get("policies", POLICIES), values.get("default_policy", "default"))
    assert plan == {"problems": says, "tasks": [], "unavailable": [], "missing": [], "left_out": [], "unprotected": []}


@pytest.mark.parametrize(("policy", "word"), [
    ({"methd": "export"}, "methd"), ({"method": "magic"}, "magic"), ({"consistency": "best"}, "best"),
    ({"keep": {"daily": "many"}}, "daily"),
    ({"keep": {"fortnightly": 1}}, "fortnightly"), ({"keep": {"last": -1}}, "last"),
    ({"timezone": "Mars/Olympus"}, "Mars/Olympus"),
    ({"timeout": "long"}, "timeout"), ({"writers": "all"}, "all"), ({"run_as": "me"}, "me"), ({"csv_any_node": "perhaps"}, "csv_any_node"),
    ({"run_as": "account"}, "run_as is account, and run_as_user and run_as_password is not set."),
    ({"run_as": "account", "run_as_user": "DOM\\copier"}, "run_as is account, and run_as_password is not set."),
    ({"run_as_user": "DOM\\copier"}, "run_as_user is set, and run_as is not account."),
    ({"run_as": "system", "run_as_user": "DOM\\copier", "run_as_password": PASSWORD},
     "run_as_user and run_as_password is set, and run_as is not account."),
    ({"method": "live_copy"}, "a live copy is inconsistent; the policy must say accept_inconsistent: true itself."),
    ({"method": "live_copy", "accept_inconsistent": False}, "accept_inconsistent: true"),
    ({"method": "live_copy", "accept_inconsistent": True, "writers": "hyperv"}, "writers means nothing with the method live_copy."),
    ({"method": "live_copy", "accept_inconsistent": True, "consistency": "crash"}, "consistency means nothing with the method live_copy."),
    ({"method": "live_copy", "accept_inconsistent": True, "verify": "sha256"}, "verify: sha256 is not possible"),
    ({"accept_inconsistent": True}, "accept_inconsistent means nothing with the method vss_copy."),
    ({"kind": "standard"}, "kind means nothing with the method vss_copy."),
    ({"method": "checkpoint", "keep": {"last": 2}}, "keep means nothing with the method checkpoint."),
    ({"method": "checkpoint", "max_age": "20h"}, "max_age means nothing with the method checkpoint."),
    ({"method": "checkpoint", "rpo": "20h"}, "rpo means nothing with the method checkpoint."),
    ({"method": "checkpoint", "run_as_user": "DOM\\copier"}, "run_as_user means nothing with the method checkpoint."),
    ({"method": "checkpoint", "kind": "crash"}, "crash"),
    ({"method": "checkpoint", "expires_after": "tomorrow"}, "'tomorrow' is not an age such as 30m, 20h or 7d."),
    ({"method": "replica", "destination": "E:\\B"}, "destination means nothing with the method replica."),
    ({"method": "replica", "max_age": "soon"}, "'soon' is not an age such as 30m, 20h or 7d."),
])
def test_values_of_policies_are_checked(policy: dict[str, Any], word: str) -> None:
    (problem,) = backup_plan([], [], {"x": policy})["problems"]
    assert problem.startswith("The policy x: ")
    assert word in problem
    assert PASSWORD not in problem


def options(policy: dict[str, Any], **defaults: Any) -> dict[str, Any]:
    """What the module of a policy's method is told."""
    plan = backup_plan(vms("a"), [{"name": "a", "policy": "x"}], {"x": policy}, defaults={"destination": "E:\\B", **defaults})
    assert plan["problems"] == []
    assert PASSWORD not in str(plan)
    found: dict[str, Any] = plan["tasks"][0]["options"]
    assert found.pop("destination") == "E:\\B"
    return found


def test_the_account_of_a_policy_is_in_the_plan_and_its_password_is_not() -> None:
    account = {"run_as": "account", "run_as_user": "DOM\\copier", "run_as_password": PASSWORD}
    told = {"run_as": "account", "run_as_user": "DOM\\copier"}
    assert options(account) == told
    assert options({}, **account) == told
    assert options({"run_as_user": "DOM\\other"}, **account) == {**told, "run_as_user": "DOM\\other"}
    assert options({"run_as": "system"}, **account) == {"run_as": "system"}
    assert options({"run_as": "session"}, **account) == {"run_as": "session"}
    assert options({"run_as": "account"}, **{**account, "run_as": "system"}) == told


def test_a_live_copy_is_accepted_by_the_policy_alone() -> None:
    role = {"consistency": "crash", "consistency_fallback": "fail", "writers": "hyperv", "vss_wait": 600, "csv_any_node": False,
            "timeout": 60}
    assert options({"method": "live_copy", "accept_inconsistent": "yes"}, **role) == {"accept_inconsistent": True, "timeout": 60}
    live = {"method": "live_copy", "accept_inconsistent": True}
    assert options(live, verify="sha256") == {"accept_inconsistent": True}
    assert options(live, verify="none") == {"accept_inconsistent": True, "verify": "none"}
    assert options({"writers": "none"}, **role) == {**role, "writers": "none"}
    (problem,) = backup_plan([], [], {"x": {"method": "live_copy"}}, defaults={"accept_inconsistent": True})["problems"]
    assert "itself" in problem


def test_a_policy_that_nobody_uses_needs_no_destination() -> None:
    assert backup_plan([], [], {"x": {}})["problems"] == []


def test_other_input_is_an_error() -> None:
    for bad in ("sql01", [1], [{"name": "x"}], None):
        with pytest.raises(AnsibleFilterError):
            backup_plan(bad, [])


@given(st.lists(st.text(max_size=8), max_size=6), st.lists(st.text("ab*?[.\\", min_size=1, max_size=5).filter(str.strip), max_size=5))
def test_every_machine_has_exactly_one_place(names: list[str], patterns: list[str]) -> None:
    machines = vms(*names)
    policies = {str(number): {"destination": "E:\\B"} for number in range(len(patterns))}
    entries = [{"name": pattern, "policy": str(number)} for number, pattern in enumerate(patterns)]
    plan = backup_plan(machines, entries, policies)
    placed = [vm["vm_id"] for task in plan["tasks"] for vm in task["vms"] if vm["vm_id"]]
    placed += [vm["vm_id"] for vm in plan["unprotected"]]
    assert sorted(placed) == [vm["vm_id"] for vm in machines]


def test_what_a_policy_can_say_is_what_the_module_takes() -> None:
    for key, spec in POLICY_SPEC.items():
        if key in ("method", "rpo", "prune_from", "prune_destination"):  # who does it, what a report compares the age with, who removes
            continue
        modules = [spec[key] for spec in (ARGUMENT_SPEC, hyperv_export.ARGUMENT_SPEC, hyperv_checkpoint.ARGUMENT_SPEC) if key in spec]
        for part in ("type", "options"):
            assert {str(module.get(part)) for module in modules} == {str(spec.get(part))}, key
        assert set(spec.get("choices", ())) == {choice for module in modules for choice in module.get("choices", ())}, key


def test_an_export_has_the_options_of_its_module() -> None:
    policy = {"method": "export", "destination": "E:\\X", "verify": "chain", "keep": {"last": 2}, "prune_from": "files",
              "prune_destination": "D:\\X"}
    plan = backup_plan(vms("a"), ["a"], {"x": policy}, default_policy="x", defaults={"writers": "none", "vss_wait": 600, "target_limit": 1})
    options = set(policy) - {"method"} | {"target_limit"}
    assert (plan["problems"], plan["tasks"][0]["method"], set(plan["tasks"][0]["options"])) == ([], "export", options)
    for wrong in ({"verify": "none"}, {"writers": "hyperv"}, {"keep": {}}, {"accept_inconsistent": True}):
        assert len(backup_plan(vms("a"), ["a"], {"x": {**policy, **wrong}}, default_policy="x")["problems"]) == 1
    plain = backup_plan(vms("a"), ["a"], defaults={"destination": "E:\\X", "method": "export", "verify": "none"})
    assert "verify" not in plain["tasks"][0]["options"]


ROLE = {"destination": "E:\\B", "max_age": "20h", "keep": {"last": 2}, "run_id": "r-1", "timeout": 60, "consistency": "crash",
        "verify": "size", "run_as": "account", "run_as_user": "DOM\\copier"}
"""Variables of the role, of which most mean nothing to methods that make no copy."""
BEFORE = {"method": "checkpoint", "checkpoint_name": "before", "expires_after": "3d"}


@pytest.mark.parametrize(("policy", "wanted"), [
    (BEFORE, {"checkpoint_name": "before", "expires_after": "3d", "run_id": "r-1", "timeout": 60}),
    ({**BEFORE, "kind": "standard", "notes": "mine", "min_free_percent": "5", "run_id": "r-2", "timeout": 9},
     {"checkpoint_name": "before", "expires_after": "3d", "kind": "standard", "notes": "mine", "min_free_percent": 5, "run_id": "r-2",
      "timeout": 9}),
    ({"method": "replica"}, {"max_age": "1h"}),
    ({"method": "replica", "max_age": "30m", "rpo": "2h"}, {"max_age": "30m", "rpo": "2h"}),
])
def test_methods_that_make_no_copy_have_the_options_of_their_modules(policy: dict[str, Any], wanted: dict[str, Any]) -> None:
    plan = backup_plan(vms("a"), ["a"], {"x": policy}, "x", ROLE)
    assert (plan["problems"], [task["options"] for task in plan["tasks"]], plan["unavailable"]) == ([], [wanted], [])


def test_a_checkpoint_needs_a_name_and_an_end() -> None:
    def problems(entries: list[str]) -> list[str]:
        found: list[str] = backup_plan(vms("a"), entries, {"x": {"method": "checkpoint"}}, "x", ROLE)["problems"]
        return found

    assert problems([]) == []
    assert problems(["a"]) == ["The policy x has no checkpoint_name, which the method checkpoint needs.",
                               "The policy x has no expires_after, which the method checkpoint needs."]


def test_nothing_is_done_around_a_look_at_a_replica() -> None:
    hooks = [{"name": "a", "before": "/f.yml"}]
    policies = {"far": {"method": "replica"}, "before": BEFORE}
    plan = backup_plan(vms("a", "b"), ["*"], policies, "far", hooks=hooks)
    assert [([vm["name"] for vm in task["vms"]], task["hooks"], task["number"]) for task in plan["tasks"]] == [(["a", "b"], {}, 0)]
    plan = backup_plan(vms("a", "b"), ["*"], policies, "before", hooks=hooks)
    assert [([vm["name"] for vm in task["vms"]], bool(task["hooks"]), task["number"]) for task in plan["tasks"]] == [
        (["b"], False, 0), (["a"], True, 1)]


def test_who_has_hooks_is_protected_alone() -> None:
    hooks = [{"name": "DB*", "before": "/f.yml"}, {"vm_id": GUID.format(0), "after": "/t.yml"}, {"name": "*", "before": ""}]
    assert len(backup_plan(vms("a"), ["a"], defaults={"destination": "E:\\X"}, hooks=hooks)["problems"]) == 1
    plan = backup_plan(vms("a", "db1", "c", "db2"), ["*"], defaults={"destination": "E:\\X"}, hooks=hooks[:2])
    assert [([vm["name"] for vm in task["vms"]], task["hooks"]) for task in plan["tasks"]] == [
        (["c"], {}), (["a"], {"after": "/t.yml"}), (["db1"], {"before": "/f.yml"}), (["db2"], {"before": "/f.yml"})]


# -- what became of each -----------------------------------------------------------------------------------------------

PLAN = backup_plan(vms("a", "b", "c"), [
    {"name": "a", "policy": "gold"}, {"name": "b", "policy": "silver"}, {"name": "c", "policy": "later"}], POLICIES)
NOT_AVAILABLE = ("c", "later", False, True, "method_not_available")


def short(entries: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(entry["vm"]["name"], entry["policy"], entry["changed"], entry["failed"], entry["error_code"]) for entry in entries]


def test_entries_of_tasks_that_succeeded_and_failed() -> None:
    entry = {"vm": PLAN["tasks"][0]["vms"][0], "changed": True, "failed": False, "consistency": {"achieved": "crash"}, "leftovers": [],
             "manifest": {"folder": "E:\\Gold\\x", "run_id": "r", "taken": "2026-01-01T00:00:00Z", "size": 5}}
    told = backup_entries([{"results": [entry]}, {"msg": "full", "error_code": "destination_full", "hint": "make room"}], PLAN)
    assert short(told) == [("a", "gold", True, False, None), ("b", "silver", False, True, "destination_full"), NOT_AVAILABLE]
    assert (told[0]["folder"], told[0]["size"], told[0]["msg"]) == ("E:\\Gold\\x", 5, None)
    assert (told[1]["msg"], told[1]["hint"], told[1]["folder"]) == ("full", "make room", None)
    assert LATER == ("backup",)
    assert told[2]["msg"] == "The method backup of the policy later is not available yet."


def test_a_checkpoint_is_told_as_one_and_not_as_a_copy() -> None:
    plan = backup_plan(vms("a", "b", "c"), ["*"], {"x": BEFORE}, "x")
    consistency = {"requested": "production_only", "achieved": "application"}
    one = {"id": "G", "name": "before", "kind": "production", "expires": "2026-01-04T00:00:00Z", "run_id": "r", "owner": "ours",
           "created": "2026-01-01T00:00:00Z", "expired": False}
    results = [{"changed": True, "failed": False, "checkpoint": one, "consistency": consistency},
               {"changed": False, "failed": False, "checkpoint": {**one, "expired": True}},
               {"changed": False, "failed": True, "error_code": "shared_disk", "msg": "no", "leftovers": [{}]}]
    told = backup_entries([{"results": [{"vm": vm, **one} for vm, one in zip(plan["tasks"][0]["vms"], results, strict=True)]}], plan)
    assert short(told) == [
        ("a", "x", True, False, None), ("b", "x", False, True, "checkpoint_expired"), ("c", "x", False, True, "shared_disk")]
    assert told[0]["checkpoint"] == {key: one[key] for key in ("id", "name", "kind", "expires")}
    assert (told[0]["consistency"], told[0]["taken"], told[0]["run_id"]) == (consistency, one["created"], "r")
    assert [(entry["folder"], entry["size"], entry["replica"]) for entry in told] == [(None, None, None)] * 3
    assert (told[2]["checkpoint"], told[2]["leftovers"]) == (None, [{}])


WELL = {"mode": "primary", "state": "replicating", "health": "ok", "lag": 1800, "last_replicated": "2026-01-01T00:00:00Z",
        "disks_left_out": ["D:\\page.vhdx"]}


@pytest.mark.parametrize(("seen", "code", "says"), [
    ({}, None, None),
    ({"lag": 1801}, "replica_lag", "The replica is 30 min behind; 30 min are allowed."),
    ({"lag": None}, "replica_lag_unknown", "How far the replica is behind is not known."),
    ({"health": "warning"}, "replica_warning", "The health of its replication is warning."),
    ({"health": "not_applicable"}, "replica_warning", "The health of its replication is not_applicable."),
    ({"health": "critical", "state": "critical", "lag": 9999}, "replica_critical", "The health of its replication is critical."),
    ({"state": "initial_replication"}, "replica_not_copied", "Its replica has no first copy yet."),
    ({"state": "suspended"}, "not_replicating", "It is not replicating: suspended."),
    ({"state": "waiting_for_resynchronization"}, "not_replicating", "It is not replicating: waiting_for_resynchronization."),
    ({"state": "synced"}, "failover_in_progress", "A failover of it is not finished."),
    ({"mode": "none", "state": "none", "health": None, "lag": None}, "not_replicated", "It has no replication."),
    ({"mode": "replica"}, "replica_vm", "It is a replica itself."),
])
def test_a_replica_protects_when_all_is_well(seen: dict[str, Any], code: str | None, says: str | None) -> None:
    plan = backup_plan(vms("a"), ["a"], {"x": {"method": "replica", "max_age": "30m"}}, "x")
    entry, = backup_entries([{"replicas": [{"vm": plan["tasks"][0]["vms"][0], **WELL, **seen}], "missing": []}], plan)
    assert (entry["changed"], entry["failed"], entry["error_code"], entry["msg"]) == (False, code is not None, code, says)
    assert bool(entry["hint"]) is (code is not None)
    kept = {**WELL, **seen}
    assert entry["replica"] == {key: kept[key] for key in ("state", "health", "lag", "disks_left_out")}
    assert (entry["taken"], entry["folder"], entry["checkpoint"]) == (WELL["last_replicated"], None, None)


def test_a_machine_that_is_not_there_does_not_replicate() -> None:
    plan = backup_plan(vms("a", "twin", "Twin"), ["a", "twin"], {"x": {"method": "replica"}}, "x")
    told = backup_entries([{"replicas": [], "missing": [GUID.format(0), "twin"]}], plan)
    assert short(told) == [("a", "x", False, True, "vm_not_found"), ("twin", "x", False, True, "vm_not_unique")]
    told = backup_entries([{"unreachable": True, "msg": "away", "error_code": "unreachable"}], plan)
    assert {entry["error_code"] for entry in told} == {"unreachable"}


def test_no_result_is_a_failure() -> None:
    assert short(backup_entries([], PLAN)) == [("a", "gold", False, True, None), ("b", "silver", False, True, None), NOT_AVAILABLE]
    assert backup_entries([], PLAN)[0]["msg"] == "The task has no result."


def test_other_results_are_an_error() -> None:
    for results, plan in (([], {}), ([], None), ("x", PLAN), ([{}, {}, {}], PLAN)):
        with pytest.raises(AnsibleFilterError):
            backup_entries(results, plan)


@pytest.mark.parametrize(("hook", "code"), [("before", "hook_failed"), ("after", "after_hook_failed")])
def test_a_hook_that_failed_is_its_machines_failure(hook: str, code: str) -> None:
    plan = backup_plan(vms("a"), ["a"], defaults={"destination": "E:\\X"}, hooks=[{"name": "a", "before": "/f.yml"}])
    entry, = backup_entries([{"hook": hook, "said": "no"}], plan)
    assert (entry["failed"], entry["error_code"], entry["msg"].endswith(": no")) == (True, code, True)


@pytest.mark.parametrize(("notes", "left_out"), [
    ("kept\n[agentless.hyperv restored={own} source={other} backup=b-1 run=r-1 mode=drill]", True),
    ("[agentless.hyperv test failover of={other} test={own}]", True),
    ("[agentless.hyperv restored={own} source={other} backup=b-1 run=r-1 mode=new]", False),
    ("[agentless.hyperv restored={other} source={own} backup=b-1 run=r-1 mode=drill]", False),
    ("[agentless.hyperv test failover of={own} test={other}]", False),
    ("mode=drill", False), (None, False),
])
@pytest.mark.parametrize("entry", ["*", "web01"])
def test_a_machine_of_a_drill_or_a_test_failover_is_nothing_to_protect(notes: str | None, left_out: bool, entry: str) -> None:
    machines: list[dict[str, Any]] = [*vms("sql01", "web01")]
    own, other = machines[1]["vm_id"], machines[0]["vm_id"]
    machines[1]["notes"] = notes and notes.format(own=own, other=other)
    plan = backup_plan(machines, [entry], {}, defaults={"destination": "E:\\Backup"})
    assert [vm["name"] for vm in plan["left_out"]] == ["web01"] * left_out
    assert ("web01" in [vm["name"] for task in plan["tasks"] for vm in task["vms"]], plan["missing"]) == (not left_out, [])
    assert "web01" not in [vm["name"] for vm in plan["unprotected"]]
