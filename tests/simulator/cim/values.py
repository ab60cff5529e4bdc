# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Scalar CIM values as text: the forms of the wire (wire 2.5), of CIM-XML (wire 3.3) and of WQL."""
from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Final

from .model import CimValue

INTEGER_RANGES: Final = {
    **{f"uint{bits}": (0, 2**bits - 1) for bits in (8, 16, 32, 64)},
    **{f"sint{bits}": (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (8, 16, 32, 64)},
}
REALS: Final = frozenset({"real32", "real64"})

_INTEGER = re.compile(r"[+-]?[0-9]{1,20}\Z")
_ISO_INTERVAL = re.compile(
    r"P(?=.)(?:([0-9]{1,8})D)?(?:T(?=.)(?:([0-9]{1,8})H)?(?:([0-9]{1,8})M)?(?:([0-9]{1,8})(?:\.([0-9]{1,6}))?S)?)?\Z")
_ISO_TIME = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,9}))?(Z|[+-][0-9]{2}:[0-9]{2})?\Z")
_DMTF = re.compile(r"([0-9]{8})([0-9]{2})([0-9]{2})([0-9]{2})\.([0-9]{6})(?::(000)|([+-])([0-9]{3}))\Z")


def parse_integer(cim_type: str, text: str) -> int:
    """A decimal number within the range of ``cim_type``; ValueError otherwise."""
    text = text.strip()
    if not _INTEGER.match(text):
        raise ValueError(f"{text!r} is no {cim_type}")
    low, high = INTEGER_RANGES[cim_type]
    number = int(text)
    if not low <= number <= high:
        raise ValueError(f"{number} is out of the range of {cim_type}")
    return number


def parse_real(text: str) -> float:
    """A floating point number; ValueError otherwise."""
    return float(text.strip())


def format_real(value: float) -> str:
    """Fifteen significant digits (wire 2.5)."""
    return f"{value:.15g}"


def format_iso_interval(value: timedelta) -> str:
    """``P0DT0H1M1.00417S``: every part present, trailing zeros of the fraction trimmed (wire 2.5)."""
    hours, rest = divmod(value.seconds, 3600)
    minutes, seconds = divmod(rest, 60)
    return f"P{value.days}DT{hours}H{minutes}M{seconds}{_fraction(value.microseconds)}S"


def parse_iso_interval(text: str) -> timedelta:
    """The reverse; parts may be missing, years and months are not accepted. ValueError otherwise."""
    match = _ISO_INTERVAL.match(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no interval")
    days, hours, minutes, seconds, fraction = match.groups()
    return timedelta(days=int(days or 0), hours=int(hours or 0), minutes=int(minutes or 0), seconds=int(seconds or 0),
                     microseconds=int((fraction or "").ljust(6, "0")))


def format_iso_time(value: datetime, offset: timedelta | None = None) -> str:
    """``2025-12-17T09:55:22.702341Z``, or with the offset that some servers emit (wire 2.5)."""
    if offset is None:
        moment, suffix = value.astimezone(UTC), "Z"
    else:
        moment = value.astimezone(timezone(offset))
        sign, minutes = ("-", -offset) if offset < timedelta(0) else ("+", offset)
        suffix = f"{sign}{minutes.seconds // 3600:02}:{minutes.seconds // 60 % 60:02}"
    return f"{moment.replace(tzinfo=None, microsecond=0).isoformat()}{_fraction(moment.microsecond)}{suffix}"


def parse_iso_time(text: str) -> datetime:
    """A time of the wire; without a zone it is UTC. ValueError otherwise."""
    match = _ISO_TIME.match(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no time")
    *parts, fraction, zone = match.groups()
    micro = int((fraction or "")[:6].ljust(6, "0"))
    year, month, day, hour, minute, second = (int(part) for part in parts)
    moment = datetime(year, month, day, hour, minute, second, micro, tzinfo=UTC)
    if zone in (None, "Z"):
        return moment
    offset = timedelta(hours=int(zone[1:3]), minutes=int(zone[4:6]))
    return _shift(moment, -offset if zone[0] == "+" else offset)


def format_dmtf(value: datetime | timedelta) -> str:
    """The form of CIM-XML and WQL: ``yyyymmddHHMMSS.mmmmmm+000`` or ``ddddddddHHMMSS.mmmmmm:000``."""
    if isinstance(value, timedelta):
        hours, rest = divmod(value.seconds, 3600)
        minutes, seconds = divmod(rest, 60)
        return f"{value.days:08}{hours:02}{minutes:02}{seconds:02}.{value.microseconds:06}:000"
    moment = value.astimezone(UTC)
    return (f"{moment.year:04}{moment.month:02}{moment.day:02}{moment.hour:02}{moment.minute:02}{moment.second:02}"
            f".{moment.microsecond:06}+000")


def parse_dmtf(text: str) -> datetime | timedelta:
    """The reverse. ValueError for anything else, the ISO forms included."""
    match = _DMTF.match(text)
    if match is None:
        raise ValueError(f"{text!r} is no DMTF datetime")
    date, hour, minute, second, micro, interval, sign, zone = match.groups()
    if interval is not None:
        if int(hour) > 23 or int(minute) > 59 or int(second) > 59:
            raise ValueError(f"{text!r} is no interval")
        return timedelta(days=int(date), hours=int(hour), minutes=int(minute), seconds=int(second), microseconds=int(micro))
    moment = datetime(int(date[:4]), int(date[4:6]), int(date[6:]), int(hour), int(minute), int(second), int(micro), tzinfo=UTC)
    offset = timedelta(minutes=int(zone))
    return _shift(moment, -offset if sign == "+" else offset)


def key_text(value: CimValue) -> str:
    """A key as the text of a selector (wire 1.2); references are written by :mod:`simulator.cim.paths`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime | timedelta):
        return format_dmtf(value)
    return str(value)


def _fraction(microseconds: int) -> str:
    return f".{microseconds:06}".rstrip("0") if microseconds else ""


def _shift(moment: datetime, by: timedelta) -> datetime:
    try:
        return moment + by
    except OverflowError as error:
        raise ValueError("a time outside the calendar") from error
