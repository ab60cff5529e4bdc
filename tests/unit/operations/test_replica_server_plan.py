# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The decision about a replica server: no host, values in and values out."""
from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.cim import facts, rows
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.cimxml import format_instance
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.types import Instance, Reference
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import replica_server
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.replica_server import Authorization, ServerFacts
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import replica_server_plan as planner
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.firewall import Rule
from ansible_collections.agentless.hyperv.plugins.modules.hyperv_replica_server import ARGUMENT_SPEC
from hypothesis import given
from hypothesis import strategies as st

BUILD = 20348
FRESH = {"enabled": False, "authentication": None, "http_port": 80, "https_port": 443, "certificate_thumbprint": None,
         "monitoring_interval": 43200, "monitoring_start": "09:00"}
ANY = Authorization("*", "D:\\Replica", "DEFAULT", "Microsoft:1")


def server(*entries: Authorization, **settings: Any) -> ServerFacts:
    return ServerFacts("Microsoft:Service", {**FRESH, **settings}, entries, True)


def wanted(**params: Any) -> planner.Wanted:
    defaults = {name: option.get("default") for name, option in ARGUMENT_SPEC.items()}
    if "authorization" in params:
        params["authorization"] = [{"storage": None, "trust_group": "DEFAULT", "state": "present", **entry}
                                   for entry in params["authorization"]]
    return planner.wanted_from({**defaults, **params})


def rule(name: str, lets_in: bool) -> dict[str, Rule | None]:
    return {name: Rule(Reference("x", "y"), name, lets_in)}


def test_a_fresh_host_gets_settings_entry_and_an_open_port() -> None:
    asked = wanted(authentication="kerberos", authorization=[{"primary": "*", "storage": "D:\\Replica"}])
    plan = planner.decide(server(), asked, BUILD, rule("VIRT-HVRHTTPL-In-TCP-NoScope", False))
    done = planner.as_plan(plan, server(), "HV01", {})
    assert [(step.action, step.target) for step in done.steps] == [
        ("modify_settings", "HV01"), ("add_authorization", "*"), ("open_port", "VIRT-HVRHTTPL-In-TCP-NoScope")]
    assert rows.properties(plan.changes) == {"RecoveryServerEnabled": True, "AllowedAuthenticationType": 1}
    assert done.before == {"enabled": False, "authentication": None, "authorization": []}


@given(st.fixed_dictionaries({}, optional={
    "authentication": st.sampled_from(["kerberos", "certificate", "both"]), "http_port": st.integers(1, 65535),
    "https_port": st.integers(1, 65535), "monitoring_interval": st.integers(3600, 604800),
    "monitoring_start": st.sampled_from(["9:00", "18:30"]), "certificate_thumbprint": st.sampled_from(["aa bb", "AABB", "cc"]),
    "authorization": st.lists(st.fixed_dictionaries({"primary": st.sampled_from(["*", "a.b", "*.B"]), "storage": st.just("d:\\R\\")}),
                              unique_by=lambda entry: entry["primary"])}), st.booleans())
def test_what_was_done_is_not_done_again(params: dict[str, Any], purge: bool) -> None:
    asked, before = wanted(**params, firewall=False, authorization_purge=purge and "authorization" in params), server(ANY)
    plan = planner.decide(before, asked, BUILD, {})
    then = ServerFacts("x", plan.settings, plan.entries, True)
    assert not planner.as_plan(planner.decide(then, asked, BUILD, {}), then, "HV01", {}).changed
    untouched = set(FRESH) - set(params) - {"enabled"}
    assert {name: plan.settings[name] for name in untouched} == {name: FRESH[name] for name in untouched}


def test_entries_are_added_and_changed_and_only_purged_when_asked_to() -> None:
    other = Authorization("hv09.example.test", "E:\\x", "g", "Microsoft:2")
    there, entry = server(ANY, other, enabled=True, authentication="kerberos"), {"primary": "HV09.EXAMPLE.TEST", "storage": "F:\\y"}
    plan = planner.decide(there, wanted(authorization=[entry], firewall=False), BUILD, {})
    assert (plan.added, plan.removed, [new.storage for _unused, new in plan.modified]) == ((), (), ["F:\\y"])
    plan = planner.decide(there, wanted(authorization=[entry], authorization_purge=True, firewall=False), BUILD, {})
    assert [one.primary for one in plan.removed] == ["*"]
    with pytest.raises(HypervError) as raised:
        wanted(authorization_purge=True)
    assert raised.value.error_code == "invalid_option"
    gone = planner.decide(there, wanted(authorization=[{"primary": "*", "state": "absent"}], firewall=False), BUILD, {})
    assert ([one.primary for one in gone.removed], [one.primary for one in gone.entries]) == (["*"], ["hv09.example.test"])


def test_another_port_gets_a_rule_of_ours_and_the_old_one_goes() -> None:
    there = server(enabled=True, authentication="kerberos", http_port=8080)
    old, new = "agentless.hyperv replica listener TCP 8080", "agentless.hyperv replica listener TCP 8081"
    plan = planner.decide(there, wanted(http_port=8081), BUILD, {**rule(old, True), new: None})
    assert ([one.name for one in plan.opened], plan.closed) == ([new], (8080,))
    off = planner.decide(there, wanted(state="absent"), BUILD, rule(old, True))
    assert (off.opened, off.closed, [change.after for change in off.changes]) == ((), (8080,), [False])


@pytest.mark.parametrize(("settings", "domain", "code"), [
    ({"enabled": True, "authentication": None}, "d", "invalid_option"),
    ({"enabled": True, "authentication": "kerberos"}, None, "kerberos_needs_domain"),
    ({"enabled": True, "authentication": "certificate"}, None, "certificate_missing"),
    ({"enabled": True, "authentication": "both", "certificate_thumbprint": "A", "http_port": 443}, "d", "invalid_option"),
])
def test_what_cannot_work_is_refused(settings: dict[str, Any], domain: str | None, code: str) -> None:
    with pytest.raises(HypervError) as refused:
        planner.refuse({**FRESH, **settings}, domain)
    assert refused.value.error_code == code


@pytest.mark.parametrize("params", [
    {"http_port": 0}, {"monitoring_interval": 60}, {"authorization": [{"primary": "*"}]},
    {"authorization": [{"primary": "*", "storage": "D:\\"}, {"primary": "*", "state": "absent"}]},
])
def test_arguments_that_make_no_sense_are_refused(params: dict[str, Any]) -> None:
    with pytest.raises(HypervError) as refused:
        wanted(**params)
    assert refused.value.error_code == "invalid_option"


def test_a_missing_rule_is_told() -> None:
    with pytest.raises(HypervError) as refused:
        planner.decide(server(), wanted(authentication="kerberos"), BUILD, {"VIRT-HVRHTTPL-In-TCP-NoScope": None})
    assert refused.value.error_code == "firewall_rule_missing"


def test_every_row_writes_and_reads_what_the_class_holds() -> None:
    values = {"enabled": True, "authentication": "both", "http_port": 81, "https_port": 444, "certificate_thumbprint": "aa bb",
              "monitoring_interval": 3600, "monitoring_start": "6:05"}
    changes = rows.differences(replica_server.ROWS, FRESH, values, BUILD)
    text = format_instance(facts.embedded("Msvm_ReplicationServiceSettingData", rows.properties(changes)))
    assert 'NAME="MonitoringStartTime" TYPE="datetime"><VALUE>00000000060500.000000:000' in text
    assert 'NAME="CertificateThumbPrint" TYPE="string"><VALUE>AABB' in text
    assert 'NAME="AllowedAuthenticationType" TYPE="uint16"><VALUE>3' in text


@pytest.mark.parametrize("text", ["00000000183000.000000+000", "00000000183000.000000:000"])
def test_a_time_of_day_is_read_in_both_spellings(text: str) -> None:
    row = next(one for one in replica_server.ROWS if one.option == "monitoring_start")
    assert row.kind.read(Instance("n", "c", {"MonitoringStartTime": text}), "MonitoringStartTime") == "18:30"


def test_a_choice_that_a_release_does_not_have_is_said() -> None:
    table = (rows.Row("frequency", "ReplicationInterval", rows.INTEGER, since=9600, fixed=300),)
    shown = rows.shown(table, Instance("n", "c", {}), 9200)
    assert shown == {"frequency": 300}
    assert rows.differences(table, shown, {"frequency": 300}, 9200) == ()
    with pytest.raises(HypervError, match="always 300") as refused:
        rows.differences(table, shown, {"frequency": 30}, 9200)
    assert refused.value.error_code == "not_on_this_release"


@pytest.mark.parametrize(("primary", "host", "admitted"), [
    ("*", "hv01", True), ("*.example.test", "HV01.EXAMPLE.TEST", True), ("*.example.test", "hv01.other.test", False),
    ("hv01.example.test", "HV01.example.test", True), ("hv01.example.test", "hv02.example.test", False)])
def test_whom_an_entry_admits(primary: str, host: str, admitted: bool) -> None:
    assert Authorization(primary, "", "").admits(host) is admitted
