# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.agentless.hyperv.plugins.filter.replica_entries import OPTIONS, replica_entries
from ansible_collections.agentless.hyperv.plugins.modules.hyperv_replica import ARGUMENT_SPEC

SQL = {"name": "SQL01", "pair": ["hv01", "hv02"], "frequency": 30}


def vm(name: str, mode: str) -> dict[str, Any]:
    return {"name": name, "replication": {"mode": mode, "relations": []}}


@pytest.mark.parametrize(("host", "vms", "peer"), [
    ("hv01", [], None), ("hv01", [vm("sql01", "none")], "hv02"), ("hv02", [vm("sql01", "none")], None),
    ("hv01", [vm("sql01", "primary")], "hv02"), ("hv02", [vm("sql01", "primary")], "hv01"), ("hv02", [vm("sql01", "replica")], None),
    ("hv01", [vm("sql01", "primary"), vm("SQL01", "none")], "hv02"), ("hv03", [vm("sql01", "primary")], None)])
def test_an_entry_belongs_to_the_host_of_the_primary(host: str, vms: list[dict[str, Any]], peer: str | None) -> None:
    told = replica_entries([SQL], host, vms, {"frequency": 300, "recovery_history": 4}, ["hv01", "hv02", "hv03"])
    assert told == {"problems": [], "mine": [] if peer is None else [{**SQL, "recovery_history": 4, "peer": peer}]}


@pytest.mark.parametrize(("entry", "defaults", "said"), [
    ("sql01", {}, "it must be a dictionary"), ({"pair": ["hv01", "hv02"]}, {}, "name must be"),
    ({**SQL, "pair": ["hv01"]}, {}, "pair must be"), ({**SQL, "pair": ["hv01", "hv01"]}, {}, "pair must be"),
    ({**SQL, "pair": ["hv01", "elsewhere"]}, {}, "elsewhere is no host of the inventory"),
    ({**SQL, "frequencey": 30, "state": "absent"}, {}, "frequencey, state is no option"),
    (SQL, {"name": "x"}, "replica_defaults: name is no option")])
def test_what_is_wrong_is_told_and_nothing_chosen(entry: Any, defaults: dict[str, Any], said: str) -> None:
    told = replica_entries([entry], "hv01", [vm("sql01", "primary")], defaults, ["hv01", "hv02"])
    assert told["mine"] == []
    assert [said in problem for problem in told["problems"]] == [True]


def test_one_entry_for_one_name() -> None:
    assert replica_entries([SQL, {**SQL, "name": "sql01"}], "hv01")["problems"] == ["replica_vms: sql01 has several entries."]
    with pytest.raises(AnsibleFilterError, match="list of entries"):
        replica_entries({"sql01": SQL}, "hv01")


def test_the_role_hands_on_every_option_that_an_entry_can_have() -> None:
    role = Path(__file__).resolve().parents[3] / "roles" / "replica"
    handed = set(re.findall(r"\bitem\.0\.(\w+)", (role / "tasks" / "main.yml").read_text(encoding="utf-8"))) - {"name", "peer"}
    assert handed == OPTIONS
    assert set(ARGUMENT_SPEC) >= OPTIONS
    page = (role / "README.md").read_text(encoding="utf-8")
    assert {option for option in OPTIONS if f"`{option}`" not in page} == set()
