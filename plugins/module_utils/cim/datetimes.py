# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Dates and intervals in their three spellings: ISO on reads (wire 2.5), ISO in plain parameters, CIM's own in CIM-XML (wire 3.3)."""
from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

_STAMP = re.compile(r"(\d{4})-(\d\d)-(\d\d)(?:T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:?\d\d)?)?\Z", re.ASCII)
_ISO_INTERVAL = re.compile(
    r"(-)?P(?:(\d{1,6})Y)?(?:(\d{1,6})M)?(?:(\d{1,9})D)?(?:T(?:(\d{1,9})H)?(?:(\d{1,9})M)?(?:(\d{1,12})(?:\.(\d{1,9}))?S)?)?\Z", re.ASCII)
_CIM_INTERVAL = re.compile(r"(\d{8})(\d\d)(\d\d)(\d\d)\.(\d{6}|\*{6}):000\Z", re.ASCII)
_CIM_STAMP = re.compile(r"(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)\.(\d{1,6}|\*{6})(?:([+-])(\d{3}))?\Z", re.ASCII)
_MAX_INTERVAL = timedelta(days=99999999)


def _micros(fraction: str | None) -> int:
    return 0 if not fraction or fraction.startswith("*") else int(fraction[:6].ljust(6, "0"))


def parse_time(text: str) -> datetime:
    """``2025-12-17T09:55:22.702341Z`` or with an offset, 0 to 9 digits of fraction; aware, in UTC. Raises ValueError."""
    found = _STAMP.match(text.strip())
    if found is None:
        raise ValueError(f"not a time: {text[:60]!r}")
    year, month, day, hour, minute, second, fraction, zone = found.groups()
    naive = datetime(int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0), _micros(fraction), UTC)
    if zone in (None, "Z"):
        return naive
    offset = timedelta(hours=int(zone[1:3]), minutes=int(zone[-2:]))
    try:
        return naive - offset if zone[0] == "+" else naive + offset
    except OverflowError as error:
        raise ValueError(f"not a time: {text[:60]!r}") from error


def parse_interval(text: str) -> timedelta:
    """``P0DT0H1M1.00417S``. Years and months, which Windows does not send, are refused. Raises ValueError."""
    found = _ISO_INTERVAL.match(text.strip())
    if found is None or text.strip() in ("P", "-P") or text.strip().endswith("T"):
        raise ValueError(f"not an interval: {text[:60]!r}")
    sign, years, months, days, hours, minutes, seconds, fraction = found.groups()
    if int(years or 0) or int(months or 0):
        raise ValueError(f"an interval of unknown length: {text[:60]!r}")
    try:
        value = timedelta(days=int(days or 0), hours=int(hours or 0), minutes=int(minutes or 0), seconds=int(seconds or 0),
                          microseconds=_micros(fraction))
    except OverflowError as error:
        raise ValueError(f"not an interval: {text[:60]!r}") from error
    return -value if sign else value


def parse_cim(text: str) -> datetime | timedelta:
    """CIM's own spelling, ``yyyymmddHHMMSS.mmmmmmsutc`` or ``ddddddddHHMMSS.mmmmmm:000``. Raises ValueError."""
    interval = _CIM_INTERVAL.match(text.strip())
    if interval is not None:
        days, hours, minutes, seconds, micros = interval.groups()
        return timedelta(days=int(days), hours=int(hours), minutes=int(minutes), seconds=int(seconds), microseconds=_micros(micros))
    stamp = _CIM_STAMP.match(text.strip())
    if stamp is None:
        raise ValueError(f"not a CIM date: {text[:60]!r}")
    year, month, day, hour, minute, second, micros, sign, offset = stamp.groups()
    zone = timezone(timedelta(minutes=int(f"{sign or '+'}{offset or 0}")))
    try:
        stamped = datetime(int(year), int(month), int(day), int(hour), int(minute), int(second), _micros(micros), zone)
        return stamped.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"not a CIM date: {text[:60]!r}") from error


def format_time(value: datetime) -> str:
    """ISO in UTC, for plain parameters (wire 3.2). Naive times are refused: ValueError."""
    return _utc(value).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def format_interval(value: timedelta) -> str:
    """ISO, for plain parameters."""
    days, hours, minutes, seconds, micros = _split(value)
    return f"P{days}DT{hours}H{minutes}M{seconds}.{micros:06d}S"


def format_cim(value: datetime | timedelta) -> str:
    """CIM's own spelling, the only one that works inside CIM-XML (wire 3.3)."""
    if isinstance(value, datetime):
        return _utc(value).strftime("%Y%m%d%H%M%S.%f+000")
    days, hours, minutes, seconds, micros = _split(value)
    return f"{days:08d}{hours:02d}{minutes:02d}{seconds:02d}.{micros:06d}:000"


def _utc(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("a time without a zone")
    return value.astimezone(UTC)


def _split(value: timedelta) -> tuple[int, int, int, int, int]:
    if value < timedelta(0) or value > _MAX_INTERVAL:
        raise ValueError(f"an interval that CIM cannot express: {value}")
    minutes, seconds = divmod(value.seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return value.days, hours, minutes, seconds, value.microseconds
