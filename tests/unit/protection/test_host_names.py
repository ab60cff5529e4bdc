# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import re

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.host_names import (
    RESERVED,
    Listed,
    safe_host_name,
    unique_names,
    without_doubles,
)
from hypothesis import given, settings
from hypothesis import strategies as st

A, B, C = "AAAAAAAA-0000-0000-0000-000000000001", "AAAAAAAA-0000-0000-0000-000000000002", "BBBBBBBB-0000-0000-0000-000000000003"


@pytest.mark.parametrize(("text", "name"), [
    ("sql01", "sql01"), ("SQL 01 (old)", "SQL_01_old"), ("{{ 1 + 1 }}", "1_1"), ("büro-東京.ex", "büro-東京.ex"), ("...", "vm"),
    ("a\u202eb\x1b[31m", "a_b_31m"), ("!web", "web"), ("~web.*", "web"), ("u\u0308ber", "über"), ("x" * 99, "x" * 60), ("a:b&d", "a_b_d"),
])
def test_a_safe_name(text: str, name: str) -> None:
    assert safe_host_name(text) == name


def test_a_name_that_several_have_belongs_to_none_of_them() -> None:
    vms = [Listed("hv01", A, "web"), Listed("hv02", C, "WEB"), Listed("hv01", B, "sql")]
    assert dict(unique_names(vms)) == {vms[0]: "web_AAAAAAAA", vms[1]: "WEB_BBBBBBBB", vms[2]: "sql"}


def test_what_is_taken_stays_with_who_has_it() -> None:
    vms = [Listed("hv01", A, "localhost"), Listed("hv01", C, "Hv01")]
    assert dict(unique_names(vms, {"hv01"})) == {vms[0]: "localhost_AAAAAAAA", vms[1]: "Hv01_BBBBBBBB"}


def test_names_grow_until_they_differ() -> None:
    vms = [Listed("hv01", A, "x"), Listed("hv02", A, "x"), Listed("hv01", B, "x"), Listed("hv03", C, "x_aaaaaaaa_hv02")]
    assert dict(unique_names(vms)) == {
        vms[0]: f"x_{A}_hv01", vms[1]: f"x_{A}_hv02", vms[2]: f"x_{B}_hv01", vms[3]: "x_aaaaaaaa_hv02"}


def test_a_replica_never_shares_the_name_of_its_primary() -> None:
    primary, replica = Listed("hv01", A, "sql"), Listed("hv02", A, "sql", "replica")
    assert dict(unique_names([replica, primary])) == {primary: "sql", replica: "sql_replica"}


def test_a_clustered_machine_on_two_nodes_is_that_of_its_owner() -> None:
    here = Listed("node1", A, "sql", "", "NODE1", "node2.example.com")
    there = Listed("node2", A, "sql", "", "NODE2", "node2.example.com")
    copy, other = Listed("hv09", A, "sql", "replica"), Listed("node1", C, "x", "", "NODE1", "NODE1")
    assert without_doubles([here, there, copy, other]) == (there, copy, other)
    unowned = (Listed("hv01", A, "sql"), Listed("hv02", A, "sql"))
    assert without_doubles(unowned) == unowned


names = st.text(max_size=8) | st.sampled_from(("a", "A", "a_AAAAAAAA", "a_AAAAAAAA_h", "localhost", f"a_{A}_h"))
machines = st.builds(Listed, st.sampled_from(("h", "H", "h.x")), st.sampled_from((A, B, C)), names, st.sampled_from(("", "replica")))


@settings(deadline=None)
@given(st.lists(machines, max_size=8, unique=True), st.sets(names, max_size=3), st.randoms())
def test_every_machine_has_a_safe_name_of_its_own_whatever_the_order(vms: list[Listed], taken: set[str], random: object) -> None:
    found = unique_names(vms, taken)
    folded = [name.casefold() for name in found.values()]
    assert set(found) == set(vms)
    assert len(set(folded)) == len(folded)
    assert not set(folded) & ({name.casefold() for name in taken} | RESERVED)
    assert all(re.fullmatch(r"[\w.-]+", name) for name in found.values())
    shuffled = list(vms)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert unique_names(shuffled, taken) == found
