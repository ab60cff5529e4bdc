# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What hosts tell a report, as short as a test can say it."""
from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.protection.report import Report, build
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.report_facts import read_host
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.report_rules import Limits

NOW = datetime(2026, 3, 10, 6, 0, tzinfo=UTC)
GOLD: dict[str, Any] = {"destination": "E:\\Backup", "max_age": "20h", "consistency": "crash"}


def iso(hours_ago: float) -> str:
    return (NOW - timedelta(hours=hours_ago)).strftime("%Y-%m-%dT%H:%M:%SZ")


def guid(number: int) -> str:
    return f"{number:08X}-0000-4000-8000-{number:012X}"


def vm(number: int, name: str | None = None, **changes: Any) -> dict[str, Any]:
    return {"vm_id": guid(number), "name": f"vm{number}" if name is None else name, "state": "running", "health": "ok",
            "storage_offline": False, "replication": {"mode": "none", "relations": []}, "cluster": None, "checkpoints": 0, "findings": [],
            **changes}


def copy(number: int, hours_ago: float, **changes: Any) -> dict[str, Any]:
    return {"vm_id": guid(number), "vm_name": "x", "host": "HV01", "kind": "vss_copy", "method": "vss", "destination": "E:\\Backup",
            "folder": f"E:\\Backup\\HV01\\{number}\\{hours_ago}", "run_id": "r", "taken": iso(hours_ago), "completed": iso(hours_ago - 0.5),
            "requested": "crash", "achieved": "crash", "verified": "size", "standing": "verified", "size": 1024**3, **changes}


def plan(*numbers: int, options: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    task = {"policy": "gold", "method": "vss_copy", "options": {**GOLD, **(options or {})}, "names": [],
            "vms": [{"vm_id": guid(number), "name": "x"} for number in numbers]}
    return {"problems": [], "tasks": [task], "unavailable": [], "missing": [], "unprotected": [], "left_out": [], **changes}


def host(*vms: dict[str, Any], name: str = "hv01", copies: list[dict[str, Any]] | None = None, plan: dict[str, Any] | None = None,
         results: list[dict[str, Any]] | None = None, **changes: Any) -> dict[str, Any]:
    info = {"host": {"name": name.upper(), "cluster": None, "release": "2022", "time": iso(0), "clock_skew": 0.0}, "vms": list(vms),
            "copies": copies or [], "shadow_copies": [],
            "destinations": [{"path": "E:\\Backup", "read": True, "free": 5, "damaged": [], "incomplete": []}], **changes}
    return {"host": name, "info": info, "plan": plan, "results": results or []}


def report(*hosts: dict[str, Any], limits: Limits | None = None) -> Report:
    return build([read_host(one) for one in hosts], limits or Limits(), NOW, "Report")


def everything() -> Report:
    """A fleet with one of each thing that a report has to tell."""
    lag = {"mode": "primary", "relations": [{"extended": False, "state": "replicating", "health": "ok", "last_replicated": iso(5)}]}
    fresh = {"mode": "replica", "relations": [{"extended": False, "state": "replicating", "health": "ok", "last_replicated": iso(0)}]}
    old = {"code": "old", "severity": "warning", "text": "A checkpoint is 9 days old."}
    asked = {"keep": {"last": 1}, "consistency": "application", "rpo": "4h"}
    first = host(
        vm(1, "bare"), vm(2, "late", replication=lag, checkpoints=3, findings=[old]), vm(3, "copied", replication=fresh),
        plan=plan(2, options=asked, unprotected=[{"vm_id": guid(1)}]), copies=[copy(2, 30, size=3 * 1024**3), copy(2, 60)],
        shadow_copies=[{"owner": "ours", "age": 90_000}, {"owner": "suspect", "age": 60}, {"owner": "foreign", "age": 10**6}])
    passed = {"began": iso(40 * 24), "outcome": "passed"}
    first["drills"] = [{"results": [{"vm": {"vm_id": guid(2)}, "last_drill": passed, "last_passed": passed}]}]
    first["replicas"] = [{"replicas": [{"vm": {"vm_id": guid(3)}, "last_test": iso(100 * 24), "test_overdue": True}]}]
    return report(first, {"host": "gone", "info": {"unreachable": True, "msg": "No."}},
                  limits=Limits(drill=timedelta(days=30), test=timedelta(days=90)))
