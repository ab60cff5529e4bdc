# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulator.cim import values, xmltext

TIMES = st.datetimes(min_value=datetime(1601, 1, 1), max_value=datetime(9998, 12, 31), timezones=st.just(UTC))
INTERVALS = st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=99_999_999))


@pytest.mark.parametrize(("value", "text"), [
    (timedelta(seconds=1, microseconds=4170), "P0DT0H0M1.00417S"),
    (timedelta(minutes=5), "P0DT0H5M0S"),
    (timedelta(minutes=1, seconds=40), "P0DT0H1M40S"),
    (timedelta(days=3, hours=4), "P3DT4H0M0S"),
])
def test_interval_on_the_wire(value: timedelta, text: str) -> None:
    assert values.format_iso_interval(value) == text
    assert values.parse_iso_interval(text) == value


@pytest.mark.parametrize(("text", "value"), [
    ("PT20S", timedelta(seconds=20)), ("P1D", timedelta(days=1)), ("PT0.5S", timedelta(milliseconds=500))])
def test_short_intervals_are_read(text: str, value: timedelta) -> None:
    assert values.parse_iso_interval(text) == value


@pytest.mark.parametrize("text", ["", "P", "PT", "P1Y", "P1M", "-PT1S", "1", "PT1.S", "P1DT", "00000000004500.000000:000"])
def test_no_interval(text: str) -> None:
    with pytest.raises(ValueError, match="no interval"):
        values.parse_iso_interval(text)


@pytest.mark.parametrize(("value", "offset", "text"), [
    (datetime(2025, 12, 17, 9, 55, 22, 702341, UTC), None, "2025-12-17T09:55:22.702341Z"),
    (datetime(2025, 12, 17, 9, 55, 22, 486340, UTC), None, "2025-12-17T09:55:22.48634Z"),
    (datetime(2025, 12, 17, 9, 55, 22, 0, UTC), None, "2025-12-17T09:55:22Z"),
    (datetime(1601, 1, 1, tzinfo=UTC), None, "1601-01-01T00:00:00Z"),
    (datetime(2025, 12, 17, 23, 55, 22, 0, UTC), timedelta(hours=8), "2025-12-18T07:55:22+08:00"),
    (datetime(2025, 12, 17, 23, 55, 22, 0, UTC), timedelta(hours=-3, minutes=-30), "2025-12-17T20:25:22-03:30"),
    (datetime(2025, 12, 17, 12, 0, 0, 0, timezone(timedelta(hours=2))), None, "2025-12-17T10:00:00Z"),
])
def test_time_on_the_wire(value: datetime, offset: timedelta | None, text: str) -> None:
    assert values.format_iso_time(value, offset) == text
    assert values.parse_iso_time(text) == value


@pytest.mark.parametrize("text", [
    "", "2025-12-17", "2025-13-17T00:00:00Z", "20251217000000.000000+000", "0001-01-01T00:00:00+01:00", "now"])
def test_no_time(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        values.parse_iso_time(text)


@pytest.mark.parametrize(("value", "text"), [
    (timedelta(minutes=45), "00000000004500.000000:000"),
    (timedelta(days=12, hours=3, minutes=4, seconds=5, microseconds=6), "00000012030405.000006:000"),
    (datetime(2026, 3, 1, 22, 0, 0, 1, UTC), "20260301220000.000001+000"),
])
def test_dmtf(value: datetime | timedelta, text: str) -> None:
    assert values.format_dmtf(value) == text
    assert values.parse_dmtf(text) == value


def test_dmtf_zone_is_minutes_east() -> None:
    assert values.parse_dmtf("20260301220000.000000+060") == datetime(2026, 3, 1, 21, 0, tzinfo=UTC)
    assert values.parse_dmtf("20260301220000.000000-060") == datetime(2026, 3, 1, 23, 0, tzinfo=UTC)


@pytest.mark.parametrize("text", [
    "P0DT0H45M0S", "2026-03-01T22:00:00Z", "00000000250000.000000:000", "00000000006000.000000:000", "20261301220000.000000+000",
    "00000000004500.000000:001", "00000000004500.000000", "00010101000000.000000+001", ""])
def test_no_dmtf(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        values.parse_dmtf(text)


@given(TIMES, INTERVALS)
def test_round_trips(moment: datetime, interval: timedelta) -> None:
    assert values.parse_iso_time(values.format_iso_time(moment)) == moment
    assert values.parse_iso_time(values.format_iso_time(moment, timedelta(hours=9))) == moment
    assert values.parse_dmtf(values.format_dmtf(moment)) == moment
    assert values.parse_dmtf(values.format_dmtf(interval)) == interval
    assert values.parse_iso_interval(values.format_iso_interval(interval)) == interval


@pytest.mark.parametrize(("cim_type", "text", "value"), [
    ("uint64", "18446744073709551615", 2**64 - 1), ("sint8", "-128", -128), ("uint8", "+7", 7), ("uint32", " 4294967295 ", 2**32 - 1)])
def test_integers(cim_type: str, text: str, value: int) -> None:
    assert values.parse_integer(cim_type, text) == value


@pytest.mark.parametrize(("cim_type", "text"), [
    ("uint8", "256"), ("uint8", "-1"), ("sint8", "-129"), ("uint16", ""), ("uint16", "1.0"), ("uint16", "0x10"), ("uint64", "9" * 5000),
    ("uint16", "1_0"), ("uint16", "\u0661")])
def test_no_integers(cim_type: str, text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        values.parse_integer(cim_type, text)


@given(st.text(max_size=40) | st.text(alphabet="0123456789PTDHMS.:+-", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    for parse in (values.parse_dmtf, values.parse_iso_interval, values.parse_iso_time, values.parse_real):
        try:
            parse(text)
        except ValueError:
            continue


@given(st.text())
def test_every_text_becomes_well_formed_xml(text: str) -> None:
    root = xmltext.parse(f"<a b={xmltext.attribute(text)}>{xmltext.text(text)}</a>")
    expected = "".join("?" if (c < " " and c not in "\t\r\n") or "\ud800" <= c <= "\udfff" or c in "\ufffe\uffff" else c for c in text)
    assert (root.text or "", root.get("b")) == (expected, expected)


@pytest.mark.parametrize("source", ["", "<a>", "<a/><b/>", '<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>', "<a>&x;</a>", "\x00"])
def test_malformed_xml(source: str) -> None:
    with pytest.raises(xmltext.MalformedXml):
        xmltext.parse(source)
