# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulator.cim import wql, wql_match
from simulator.cim.model import CimError, CimValue, Instance, Ref
from simulator.cim.schema import Schema
from unit.simulator.cim.helpers import Host

V2 = "root/virtualization/v2"
SCHEMA = Schema.load().for_os("2019")


def parse(text: str) -> wql.Query:
    return wql.parse(text, V2)


def kind_of(text: str) -> str:
    with pytest.raises(CimError) as refusal:
        parse(text)
    return refusal.value.kind


def test_select_and_its_parts() -> None:
    assert parse("select * from Msvm_ComputerSystem") == wql.Select(None, "Msvm_ComputerSystem", None)
    assert parse("  SELECT Name , ElementName\nFROM X  ") == wql.Select(("Name", "ElementName"), "X", None)
    assert parse("SELECT * FROM X WHERE A='1' AND (B<>2 OR NOT C IS NULL) and d is not null") == wql.Select(None, "X", wql.All((
        wql.Compare("A", "=", "1"), wql.Any((wql.Compare("B", "<>", 2), wql.Not(wql.IsNull("C")))), wql.Not(wql.IsNull("d")))))


def test_and_binds_closer_than_or() -> None:
    tree = parse("SELECT * FROM X WHERE a=1 OR b=2 AND c=3")
    assert isinstance(tree, wql.Select)
    assert tree.where == wql.Any((wql.Compare("a", "=", 1), wql.All((wql.Compare("b", "=", 2), wql.Compare("c", "=", 3)))))


@pytest.mark.parametrize(("literal", "value"), [
    ("'a'", "a"), ('"a"', "a"), (r"'C:\\dir\\x'", "C:\\dir\\x"), (r"'it\'s'", "it's"), (r'"say \"x\""', 'say "x"'),
    ("'say \"x\"'", 'say "x"'),
    ("5", 5), ("-5", -5), ("0x1F", 31), ("1.5", 1.5), ("TRUE", True), ("false", False)])
def test_literals(literal: str, value: wql.Literal) -> None:
    tree = parse(f"SELECT * FROM X WHERE p = {literal}")
    assert isinstance(tree, wql.Select)
    assert tree.where == wql.Compare("p", "=", value)


@pytest.mark.parametrize(("condition", "tree"), [
    ("p != 1", wql.Compare("p", "<>", 1)), ("1 < p", wql.Compare("p", ">", 1)), ("'x' = p", wql.Compare("p", "=", "x")),
    ("p = NULL", wql.IsNull("p")), ("p <> NULL", wql.Not(wql.IsNull("p"))), ("p LIKE '%a'", wql.Compare("p", "LIKE", "%a")),
    ("p isa 'C'", wql.Compare("p", "ISA", "C")), ("a.b >= 2", wql.Compare("a.b", ">=", 2))])
def test_comparisons(condition: str, tree: wql.Condition) -> None:
    parsed = parse(f"SELECT * FROM X WHERE {condition}")
    assert isinstance(parsed, wql.Select)
    assert parsed.where == tree


@pytest.mark.parametrize("text", [
    "", "SELECT", "SELECT FROM X", "SELECT * FROM", "SELECT * X", "SELECT *, a FROM X", "SELECT * FROM X WHERE", "SELECT * FROM X WHERE p",
    "SELECT * FROM X WHERE p =", "SELECT * FROM X WHERE p = q", "SELECT * FROM X WHERE p = 'a", "SELECT * FROM X WHERE (p = 1",
    "SELECT * FROM X WHERE p = 1)", "SELECT * FROM X WHERE p = 1 q = 2", "SELECT * FROM X WHERE p IN (1)", "SELECT * FROM X WHERE p < NULL",
    r"SELECT * FROM X WHERE p = 'C:\dir'", "SELECT * FROM X WHERE p = 5abc", "SELECT * FROM X WHERE p LIKE 5",
    "SELECT * FROM X; DROP",
    "SELECT COUNT(*) FROM X", "DELETE FROM X", "SELECT * FROM X ORDER BY p", "SELECT * FROM a.b", "SELECT select FROM X",
    "SELECT * FROM X WHERE " + "(" * 200 + "p=1" + ")" * 200, "SELECT * FROM X WITHIN 5",
    "ASSOCIATORS OF", "ASSOCIATORS OF {", "ASSOCIATORS OF {}", "ASSOCIATORS OF {X}", 'ASSOCIATORS OF {X.K="a\\b"}',
    "ASSOCIATORS OF {X.K='a'} y", "ASSOCIATORS OF {X.K='a'} WHERE Foo=b", "ASSOCIATORS OF {X.K='a'} WHERE Role=a AND ResultRole=b",
    "ASSOCIATORS OF {X.K='a'} WHERE Role=a Role=b", "ASSOCIATORS OF {X.K='a'} WHERE", "REFERENCES OF {X.K='a'} WHERE AssocClass=b",
    "REFERENCES OF {X.K='a'} WHERE ResultRole=b"])
def test_bad_queries(text: str) -> None:
    assert kind_of(text) == "invalid_query"


def test_associators_and_references() -> None:
    source = Ref(V2, "Msvm_ComputerSystem", {"CreationClassName": "C", "Name": "a}b\\c"})
    assert parse('ASSOCIATORS OF {Msvm_ComputerSystem.CreationClassName="C",Name="a}b\\\\c"}') == wql.Associators(source)
    assert parse("associators of { \\\\H\\root\\virtualization\\v2:Msvm_ComputerSystem.CreationClassName='C',Name='a}b\\c' } where "
                 "assocclass = A resultClass = B ResultRole=D Role=E") == wql.Associators(source, "A", "B", "E", "D")
    assert parse("REFERENCES OF {X.K='1'} WHERE ResultClass=A Role=B KeysOnly") == wql.References(
        Ref(V2, "X", {"K": "1"}), "A", "B", ("keysonly",))


def matching(condition: str, class_name: str, **values: CimValue) -> bool:
    tree = parse(f"SELECT * FROM {class_name} WHERE {condition}")
    assert isinstance(tree, wql.Select)
    assert tree.where is not None
    predicate = wql_match.compile_condition(SCHEMA, SCHEMA.get(V2, class_name), tree.where)
    return predicate(Instance(V2, class_name, dict(values)))


VM = "Msvm_ComputerSystem"
TIME = datetime(2026, 3, 1, 22, tzinfo=UTC)


@pytest.mark.parametrize(("condition", "values", "expected"), [
    ("ElementName = 'WEB'", {"ElementName": "web"}, True),
    ("elementname <> 'WEB'", {"ElementName": "web"}, False),
    ("ElementName <> 'WEB'", {}, False),  # null compares with nothing
    ("NOT ElementName = 'WEB'", {}, True),
    ("ElementName IS NULL", {}, True),
    ("ElementName > 'a' AND ElementName <= 'B'", {"ElementName": "b"}, True),
    ("EnabledState = 2", {"EnabledState": 2}, True),
    ("EnabledState = '2'", {"EnabledState": 2}, True),
    ("EnabledState < 2.5", {"EnabledState": 2}, True),
    ("3 >= EnabledState", {"EnabledState": 3}, True),
    ("EnabledState = 2 OR ElementName='x'", {"EnabledState": 3, "ElementName": "x"}, True),
    ("InstallDate >= '20260301220000.000000+000'", {"InstallDate": TIME}, True),
    ("InstallDate > '20260301230000.000000+060'", {"InstallDate": TIME}, False),
    ("InstallDate = '00000000004500.000000:000'", {"InstallDate": TIME}, False),
    ("InstallDate < '00000001000000.000000:000'", {"InstallDate": timedelta(hours=1)}, True),
    ("ElementName LIKE 'w%2'", {"ElementName": "Web 2"}, True),
    ("ElementName LIKE 'w_b'", {"ElementName": "Webb"}, False),
    ("ElementName LIKE '[a-f]%'", {"ElementName": "Db"}, True),
    ("ElementName LIKE '[^a-f]%'", {"ElementName": "Db"}, False),
    ("ElementName LIKE '[%][_][[]'", {"ElementName": "%_["}, True),
    ("ElementName LIKE '.*'", {"ElementName": "abc"}, False),
    ("ElementName LIKE '%'", {}, False),
    ("__CLASS = 'msvm_computersystem'", {}, True),
    ("__SUPERCLASS = 'CIM_ComputerSystem' AND __DYNASTY='CIM_ManagedElement'", {}, True),
    ("__this ISA 'CIM_System'", {}, True),
    ("__this ISA 'CIM_Job'", {}, False),
])
def test_meaning(condition: str, values: dict[str, CimValue], expected: bool) -> None:
    assert matching(condition, VM, **values) is expected


@pytest.mark.parametrize("condition", [
    "NoSuch = 1", "OperationalStatus = 2", "EnabledState = 'on'", "EnabledState = TRUE", "ElementName = 5", "ElementName = TRUE",
    "InstallDate = '2026-03-01'", "InstallDate = 5", "EnabledState LIKE '2'", "ElementName LIKE '[z-a]'", "Element.Name = 'x'",
    "__PATHS = 'x'"])
def test_conditions_that_do_not_fit_the_class(condition: str) -> None:
    with pytest.raises(CimError) as refusal:
        matching(condition, VM)
    assert refusal.value.kind == "invalid_query"


def test_booleans() -> None:
    found = {text: matching(f"IncrementalBackupEnabled = {text}", "Msvm_VirtualSystemSettingData", IncrementalBackupEnabled=True)
             for text in ("TRUE", "'true'", "1", "false", "0")}
    assert found == {"TRUE": True, "'true'": True, "1": True, "false": False, "0": False}


def test_equalities_are_typed_and_only_those_that_must_hold() -> None:
    definition = SCHEMA.get(V2, VM)
    tree = parse("SELECT * FROM X WHERE elementname='a' AND EnabledState='2' AND (Name='b' OR Name='c') "
                 "AND NOT Status='d' AND Caption LIKE 'e'")
    assert isinstance(tree, wql.Select)
    assert wql_match.equalities(definition, tree.where) == {"ElementName": "a", "EnabledState": 2}
    assert wql_match.equalities(definition, None) == {}


def test_long_chains_are_no_deep_recursion(vms: Host) -> None:
    chain = " OR ".join(f"Name = 'x{number}'" for number in range(5000))
    assert vms.names(f"SELECT * FROM Msvm_ComputerSystem WHERE {chain} OR Name='A1'") == ["A1"]


def quote(text: str, mark: str) -> str:
    return mark + re.sub(r"([\\'\"])", r"\\\1", text) + mark


@given(st.text(), st.sampled_from("'\""))
def test_any_text_can_be_quoted(text: str, mark: str) -> None:
    tree = parse(f"SELECT * FROM X WHERE p = {quote(text, mark)}")
    assert isinstance(tree, wql.Select)
    assert tree.where == wql.Compare("p", "=", text)


@given(st.text(max_size=12, alphabet=st.characters(exclude_categories=["Cs"])))
def test_like_matches_text_with_its_special_characters_in_brackets(text: str) -> None:
    pattern = re.sub(r"([%_\[])", r"[\1]", text)
    assert wql_match.like_pattern(pattern).fullmatch(text) is not None


WORDS = st.sampled_from(["SELECT", "*", "FROM", "Msvm_ComputerSystem", "WHERE", "Name", "=", "'a'", "<", "AND", "OR", "NOT", "(", ")",
                         "LIKE", "IS", "NULL", "5", "0x", "TRUE", "ASSOCIATORS OF", "REFERENCES OF", "{X.K='a'}", "{", "}", "Role=a",
                         '"', "'", "\\", ",", "ISA", "-1e999"])


@given(st.lists(WORDS, max_size=14).map(" ".join) | st.text(max_size=60))
def test_any_text_is_a_query_or_invalid(text: str) -> None:
    try:
        tree = parse(text)
        if isinstance(tree, wql.Select) and tree.where is not None:
            matches = wql_match.compile_condition(SCHEMA, SCHEMA.get(V2, VM), tree.where)
            assert matches(Instance(V2, VM, {"Name": "a"})) in (True, False)
    except CimError as refusal:
        assert refusal.kind == "invalid_query"
