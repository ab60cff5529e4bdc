# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulator.cim.errors import ProviderRefusal
from simulator.cim.model import Ref
from simulator.cim.paths import ObjectPathError, format_object_path, parse_object_path, relative_path

V2 = "root/virtualization/v2"
DRIVE = Ref(V2, "Msvm_ResourceAllocationSettingData", {"InstanceID": "Microsoft:G\\0\\L"})
NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,20}", fullmatch=True)


@pytest.mark.parametrize("text", [
    '\\\\HOST\\root\\virtualization\\v2:Msvm_ResourceAllocationSettingData.InstanceID="Microsoft:G\\\\0\\\\L"',
    'root\\virtualization\\v2:Msvm_ResourceAllocationSettingData.InstanceID="Microsoft:G\\\\0\\\\L"',
    'root/virtualization/v2:Msvm_ResourceAllocationSettingData.InstanceID="Microsoft:G\\\\0\\\\L"',
    '//host.example.com/root/virtualization/v2:msvm_resourceallocationsettingdata.instanceid="microsoft:g\\\\0\\\\l"',
    "\\\\HOST\\root\\virtualization\\v2:Msvm_ResourceAllocationSettingData.InstanceID='Microsoft:G\\0\\L'",  # single quotes: literal
])
def test_forms_that_mean_the_same(text: str) -> None:
    assert parse_object_path(text) == DRIVE


@pytest.mark.parametrize("text", [
    'root/virtualization/v2:Msvm_X.InstanceID="Microsoft:G\\0"',  # not doubled
    'root/virtualization/v2:Msvm_X.InstanceID="Microsoft:G\\"',
    'root/virtualization/v2:Msvm_X.InstanceID="a"b"',
    'root/virtualization/v2:Msvm_X.InstanceID="a",',
    'root/virtualization/v2:Msvm_X.InstanceID="a",InstanceId="b"',
    'root/virtualization/v2:Msvm_X.InstanceID=a',
    'root/virtualization/v2:Msvm_X.="a"',
    'root/virtualization/v2:Msvm_X="a"',
    'root/virtualization/v2:Msvm_X',
    'root/virtualization/v2:',
    'Msvm_X.InstanceID="a"',
    "<a:Address/>", "C:\\disk.vhdx", "", ":", ".", "\\\\HOST\\", '\\\\HOST\\:X.Y="a"',
])
def test_no_object_path(text: str) -> None:
    with pytest.raises(ObjectPathError) as error:
        parse_object_path(text)
    assert error.value.return_value == 32773
    assert isinstance(error.value, ProviderRefusal)


def test_several_keys_numbers_and_singletons() -> None:
    assert parse_object_path('root/cimv2:X.B="2,\\"=",A=\'1"\',C=5,D=TRUE').keys == {"B": '2,"=', "A": '1"', "C": "5", "D": "TRUE"}
    assert parse_object_path("root/cimv2:Win32_OperatingSystem=@") == Ref("root/cimv2", "Win32_OperatingSystem")


def test_namespace_may_be_given_beside_the_path() -> None:
    assert parse_object_path('X.K="root/a:b"', namespace="root/cimv2") == Ref("root/cimv2", "X", {"K": "root/a:b"})
    assert parse_object_path('root/a:X.K="b"', namespace="root/cimv2").namespace == "root/a"


def test_format_is_the_stored_form() -> None:
    assert format_object_path(DRIVE, "HOST") == (
        '\\\\HOST\\root\\virtualization\\v2:Msvm_ResourceAllocationSettingData.InstanceID="Microsoft:G\\\\0\\\\L"')
    ref = Ref(V2, "Msvm_ComputerSystem", {"Name": 'a"b', "CreationClassName": "Msvm_ComputerSystem"})
    assert format_object_path(ref) == 'root\\virtualization\\v2:Msvm_ComputerSystem.CreationClassName="Msvm_ComputerSystem",Name="a\\"b"'
    assert relative_path(Ref(V2, "X")) == "X=@"


@given(NAMES, st.dictionaries(NAMES.map(str.lower), st.text(), min_size=1, max_size=4), st.sampled_from([None, "HOST", "a.b.example"]))
def test_round_trip(class_name: str, keys: dict[str, str], machine: str | None) -> None:
    parsed = parse_object_path(format_object_path(Ref(V2, class_name, keys), machine))
    assert (parsed.namespace, parsed.class_name, dict(parsed.keys)) == (V2, class_name, keys)


@given(st.text(alphabet='\\/:."\'=,@aA1 ', max_size=40) | st.text())
def test_any_text_is_a_path_or_refused_with_32773(text: str) -> None:
    try:
        ref = parse_object_path(text)
    except ObjectPathError as error:
        assert error.return_value == 32773
    else:
        assert parse_object_path(format_object_path(ref)) == ref
