# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``hyperv_probe``: read-only by default, an answer or a reason for each doubt, and no name of the site in the document."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import ConnectionFailed, HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.probe import Redactor
from ansible_collections.agentless.hyperv.plugins.modules import hyperv_probe
from hypothesis import given
from hypothesis import strategies as st
from simulator.hyperv.spec import CheckpointSpec, DiskSpec, ReferencePointSpec, VmSpec
from simulator.soap import rules
from simulator.windows.spec import VolumeSpec

Start = Callable[..., Any]
SECRETS = ("payroll", "contoso", "hv-zrh-07", "administrator")


def host(start: Start, **values: Any) -> Any:
    return start(
        **{
            "name": "HV-ZRH-07",
            "domain": "contoso.example",
            "volumes": (VolumeSpec("C:"), VolumeSpec("D:")),
            "vms": (
                VmSpec(
                    "payroll",
                    disks=(DiskSpec("D:\\payroll\\a.vhdx"),),
                    checkpoints=(CheckpointSpec("c", kind="standard"),),
                    reference_points=(ReferencePointSpec("r"),),
                ),
                VmSpec("scratch", notes="keep me"),
                VmSpec("busy", busy="exporting"),
                VmSpec("copy", replication_mode=2),
            ),
            **values,
        }
    )


def doubts(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {entry["id"]: entry for entry in result["probe"]["doubts"]}


@pytest.mark.parametrize("release", ["2012R2", "2016", "2022", "2025"])
def test_every_doubt_has_an_answer_or_a_reason_and_nothing_is_changed(start: Start, release: str) -> None:
    runner = host(start, os_version=release)
    before = runner.running.host.counters.snapshot()
    result = runner.run(hyperv_probe)
    assert runner.running.host.counters.since(before).writing == 0
    assert result["changed"] is False
    found = doubts(result)
    assert set(found) == {f"D-{n}" for n in range(1, 27)} | {f"W-{n}" for n in range(1, 11)} | {f"F-{n}" for n in range(1, 11)}
    for entry in found.values():
        assert (entry["status"] == "answered") == (entry["answer"] is not None)
        assert entry["status"] == "answered" or entry["reason"]
    assert found["D-12"]["answer"]["enabled_states"] == {"2": 4} or release == "2012R2"
    assert found["W-2"]["answer"]["wql"] == "accepted"
    assert "refused_as" in found["F-7"]["answer"]


def test_the_document_holds_no_name_of_the_site(start: Start) -> None:
    runner = host(start)
    text = json.dumps(runner.run(hyperv_probe)).lower()
    assert not [secret for secret in SECRETS if secret in text]
    with runner.fleet.locked():
        guids = [machine.id.lower() for machine in runner.running.host.hyperv.machines.values()]
    assert guids
    assert not [guid for guid in guids if guid in text]


def test_the_experiment_writes_the_notes_and_puts_them_back(start: Start) -> None:
    runner = host(start)
    assert runner.run(hyperv_probe, probe_vm="scratch", check=True)["changed"] is True
    assert runner.running.host.changes == 0
    result = runner.run(hyperv_probe, probe_vm="scratch")
    assert result["changed"] is True
    assert doubts(result)["D-13"]["answer"] == doubts(result)["D-14"]["answer"]
    assert doubts(result)["D-14"]["answer"]["restored"] is True
    assert doubts(result)["D-14"]["answer"]["read_back_equal"] is True
    assert runner.running.host.changes >= 2


@pytest.mark.parametrize(("name", "code"), [("none", "vm_not_found"), ("busy", "probe_vm_unsuitable"), ("copy", "probe_vm_unsuitable")])
def test_machines_that_are_no_probe(start: Start, name: str, code: str) -> None:
    runner = host(start)
    with pytest.raises(HypervError) as refused:
        runner.run(hyperv_probe, probe_vm=name)
    assert refused.value.error_code == code
    assert runner.running.host.changes == 0


TEXTS = st.text(max_size=40)
HASH = re.compile("#[0-9a-f]{12}")


def texts_in(value: Any) -> Iterator[str]:
    """Every text and every key."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from texts_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts_in(item)


@given(
    st.lists(st.text(st.characters(categories=("L", "Nd")), min_size=4, max_size=12), min_size=1, max_size=4),
    st.recursive(TEXTS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3)),
)
def test_known_names_never_pass(names: list[str], value: Any) -> None:
    redactor = Redactor(names, key=b"k")
    cleaned = redactor.clean({"a": value, "b": names, **{name: name for name in names}})
    for text in texts_in(cleaned):
        for name in names:
            assert name not in HASH.sub("", text)


@pytest.mark.parametrize(
    "text", ["0a1b2c3d-1111-2222-3333-444455556666", "C:\\VMs\\secret.vhdx", "\\\\server\\share", "CONTOSO\\admin", "admin@contoso.example"]
)
def test_identities_paths_and_accounts_are_hashed(text: str) -> None:
    cleaned = Redactor([], key=b"k").clean(f"it said {text} and stopped")
    assert cleaned.startswith("it said #")
    assert cleaned.endswith(" and stopped")
    assert text not in cleaned


def test_hashes_are_equal_within_one_document_only() -> None:
    one, other = Redactor([]), Redactor([])
    assert one.hashed("HV01") == one.hashed("hv01")
    assert one.hashed("HV01") != other.hashed("HV01")


def test_a_connection_that_breaks_in_the_middle_ends_the_probe(start: Start) -> None:
    runner = host(start)
    with runner.fleet.locked():
        runner.running.host.rules.add(rules.http_status(404), nth=20, times=None)
    with pytest.raises(ConnectionFailed) as caught:
        runner.run(hyperv_probe)
    assert caught.value.error_code == "wrong_path"
