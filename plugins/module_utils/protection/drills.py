# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The evidence of restore drills: JSON for programs, JUnit for build servers, one self-contained page for people.

Names and messages come from hosts, and whoever reads a page trusts it. So every value is escaped here, for the form it stands in, and what
no reader should have to interpret - control characters, right-to-left marks - is made visible. All output is ASCII. Braces stand as
references, so that no template engine on the way finds anything to expand.
"""
from __future__ import annotations

import html
import json
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

FORMAT = 1
PASSED, FAILED, REFUSED = "passed", "failed", "refused"
OUTCOMES = (PASSED, FAILED, REFUSED)
_TIME = "%Y-%m-%dT%H:%M:%SZ"
_TEXTS = ("vm_id", "vm_name", "source_host", "host", "backup_id", "run_id", "consistency", "error_code", "message", "os_name", "folder")


@dataclass(frozen=True)
class Drill:
    """One drill. ``recovery_seconds``: from the beginning of the restore to the heartbeat, None when there was none. ``seconds``: from the
    beginning to the end of each phase. ``left``: what could not be removed. ``taken``: the instant of the data."""

    vm_id: str
    vm_name: str
    outcome: str
    began: datetime
    ended: datetime
    host: str
    run_id: str
    source_host: str | None = None
    backup_id: str | None = None
    folder: str | None = None
    taken: datetime | None = None
    consistency: str | None = None
    size: int | None = None
    recovery_seconds: float | None = None
    seconds: Mapping[str, float] | None = None
    os_name: str | None = None
    error_code: str | None = None
    message: str | None = None
    left: tuple[str, ...] = ()

    def as_data(self) -> dict[str, Any]:
        """The JSON object of one drill."""
        return {
            "format": FORMAT, "vm_id": self.vm_id, "vm_name": self.vm_name, "outcome": self.outcome, "began": _stamp(self.began),
            "ended": _stamp(self.ended), "host": self.host, "run_id": self.run_id, "source_host": self.source_host,
            "backup_id": self.backup_id, "folder": self.folder, "taken": _stamp(self.taken), "consistency": self.consistency,
            "size": self.size, "recovery_seconds": self.recovery_seconds, "seconds": dict(self.seconds or {}), "os_name": self.os_name,
            "error_code": self.error_code, "message": self.message, "left": list(self.left)}


class EvidenceError(ValueError):
    """The data are not those of a drill."""


def of_data(data: Any) -> Drill:
    """A drill out of its JSON object. Raises EvidenceError; unknown keys do not matter."""
    if not isinstance(data, Mapping) or data.get("format") != FORMAT:
        raise EvidenceError("not the evidence of a drill")
    texts = {key: data.get(key) for key in _TEXTS}
    if any(value is not None and not (isinstance(value, str) and len(value) <= 4096) for value in texts.values()):
        raise EvidenceError("a text is not one")
    for key in ("vm_id", "vm_name", "host", "run_id"):
        if texts[key] is None:
            raise EvidenceError(f"{key} is missing")
    if data.get("outcome") not in OUTCOMES:
        raise EvidenceError("the outcome is unknown")
    began, ended = _moment(data.get("began")), _moment(data.get("ended"))
    if began is None or ended is None:
        raise EvidenceError("began or ended is missing")
    phases, left = data.get("seconds", {}), data.get("left", [])
    if not isinstance(phases, Mapping) or not isinstance(left, list) or not all(isinstance(one, str) for one in left):
        raise EvidenceError("seconds or left cannot be read")
    known: dict[str, Any] = texts
    return Drill(outcome=data["outcome"], began=began, ended=ended, taken=_moment(data.get("taken")), left=tuple(left[:100]),
                 size=None if data.get("size") is None else int(_number(data["size"])),
                 recovery_seconds=None if data.get("recovery_seconds") is None else _number(data["recovery_seconds"]),
                 seconds={str(key)[:40]: _number(value) for key, value in list(phases.items())[:20]}, **known)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1 << 63:
        raise EvidenceError("a number is not one")
    return value


def _moment(value: Any) -> datetime | None:
    if value is None:
        return None
    try:
        return datetime.strptime(value, _TIME).replace(tzinfo=UTC)
    except (TypeError, ValueError) as error:
        raise EvidenceError("a time is not one") from error


def _stamp(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).strftime(_TIME)


def shown(value: object) -> str:
    """A value as text that looks like what it is: control and format characters, surrogates and separators as ``\\uXXXX``."""
    return "".join(_visible(char) for char in str(value))


def _visible(char: str) -> str:
    if char == " " or unicodedata.category(char)[0] not in "CZ":
        return char
    return f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}"


def _marked_up(value: object) -> str:
    """For HTML and XML, in elements and in attributes between double quotes: ASCII without markup, and without braces."""
    escaped = html.escape(shown(value), quote=True)
    return "".join(char if 32 <= ord(char) < 127 and char not in "{}" else f"&#{ord(char)};" for char in escaped)


# -- JSON ----------------------------------------------------------------------------------------------------------------


def as_json(drills: Iterable[Drill]) -> str:
    """All drills, one value a line. Braces inside of texts stand as escapes."""
    text = json.dumps({"format": FORMAT, "drills": [_unbraced(drill.as_data()) for drill in drills]}, ensure_ascii=True, indent=1)
    return text.replace(_OPEN, "\\u007b").replace(_CLOSE, "\\u007d") + "\n"


_OPEN, _CLOSE = "<agentless-open-brace>", "<agentless-close-brace>"


def _unbraced(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("{", _OPEN).replace("}", _CLOSE)
    if isinstance(value, dict):
        return {key: _unbraced(item) for key, item in value.items()}
    return [_unbraced(item) for item in value] if isinstance(value, list) else value


# -- JUnit ---------------------------------------------------------------------------------------------------------------


def as_junit(drills: Sequence[Drill]) -> str:
    """One test case for each drill; the time of a case is its recovery time, or how long it took to fail."""
    failures, skipped = (sum(1 for one in drills if one.outcome == outcome) for outcome in (FAILED, REFUSED))
    total = sum(_seconds(one) for one in drills)
    lines = ['<?xml version="1.0" encoding="UTF-8"?>',
             f'<testsuite name="restore_drill" tests="{len(drills)}" failures="{failures}" skipped="{skipped}" time="{total:.1f}">']
    lines += [line for one in drills for line in _test_case(one)]
    return "\n".join([*lines, "</testsuite>", ""])


def _test_case(drill: Drill) -> list[str]:
    head = (f'  <testcase classname="restore_drill.{_marked_up(drill.source_host or drill.host)}" '
            f'name="{_marked_up(drill.vm_name)} {_marked_up(drill.vm_id)}" time="{_seconds(drill):.1f}"')
    if drill.outcome == PASSED:
        return [head + "/>"]
    reason = f'message="{_marked_up(drill.message or "")}" type="{_marked_up(drill.error_code or drill.outcome)}"'
    if drill.outcome == REFUSED:
        return [head + ">", f"    <skipped {reason}/>", "  </testcase>"]
    return [head + ">", f"    <failure {reason}>{_marked_up(', '.join(drill.left))}</failure>", "  </testcase>"]


def _seconds(drill: Drill) -> float:
    return (drill.ended - drill.began).total_seconds() if drill.recovery_seconds is None else drill.recovery_seconds


# -- page ----------------------------------------------------------------------------------------------------------------

_STYLE = """
body { font: 15px/1.5 system-ui, "Segoe UI", sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem;
  color: #1d2430; background: #fff; }
h1 { font-size: 1.5rem; margin: 0 0 .2rem; } p.when { color: #5a6472; margin: 0 0 1.5rem; }
.tiles { display: flex; flex-wrap: wrap; gap: 1rem; margin: 0 0 1.5rem; padding: 0; list-style: none; }
.tiles li { border: 1px solid #d5dae1; border-radius: 6px; padding: .6rem 1rem; min-width: 7rem; }
.tiles b { display: block; font-size: 1.5rem; line-height: 1.2; }
main { overflow-x: auto; } table { border-collapse: collapse; table-layout: fixed; width: 100%; min-width: 56rem; }
col.wide { width: 27%; } col.middle { width: 17%; } col.narrow { width: 8%; }
th, td { text-align: left; vertical-align: top; padding: .5rem .6rem; border-bottom: 1px solid #e3e7ec; }
th { font-size: .8rem; color: #5a6472; border-bottom: 2px solid #c3cad3; } th.n, td.n { text-align: right; }
td { overflow-wrap: anywhere; } small { color: #5a6472; display: block; }
.o { font-weight: 600; white-space: nowrap; } .passed { color: #116329; } .failed { color: #a40e26; } .refused { color: #7a4d00; }
@media (prefers-color-scheme: dark) { body { background: #14181d; color: #e4e8ee; } th, small, p.when { color: #9aa5b3; }
  .tiles li, th, td { border-color: #333b45; } .passed { color: #57d27c; } .failed { color: #ff8b98; } .refused { color: #e5b567; } }
@media print { body { margin: 0; max-width: none; } }
"""
_HEADS = (("Virtual machine", ""), ("Outcome", ""), ("Recovery time", "n"), ("Backup", ""), ("Size", "n"), ("Drilled", ""))
_WIDTHS = ("middle", "wide", "middle", "middle", "narrow", "middle")


def as_html(drills: Sequence[Drill], made: datetime) -> str:
    """One page without anything from elsewhere: no script, no image, no font. Failures first."""
    order = {FAILED: 0, REFUSED: 1, PASSED: 2}
    rows = sorted(drills, key=lambda one: (order[one.outcome], one.vm_name.casefold(), one.vm_id))
    counts = {outcome: sum(1 for one in drills if one.outcome == outcome) for outcome in (PASSED, FAILED, REFUSED)}
    longest = max((one.recovery_seconds for one in drills if one.recovery_seconds is not None), default=None)
    tiles = [(counts[PASSED], "passed", PASSED), (counts[FAILED], "failed", FAILED if counts[FAILED] else ""),
             (counts[REFUSED], "refused", REFUSED if counts[REFUSED] else ""), (_duration(longest), "longest recovery", "")]
    head = "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
    return "\n".join([
        "<!DOCTYPE html>", '<html lang="en"><head><meta charset="utf-8">',
        head, '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>Restore drills, {_when(made)}</title>",
        f"<style>{_braced(_STYLE)}</style></head><body>", "<h1>Restore drills</h1>",
        f'<p class="when">{len(drills)} virtual machine(s), written {_when(made)}</p>',
        '<ul class="tiles">',
        *(f'<li class="{kind}"><b>{_marked_up(value)}</b>{_marked_up(label)}</li>' for value, label, kind in tiles), "</ul>",
        "<main><table><colgroup>", *(f'<col class="{width}">' for width in _WIDTHS), "</colgroup><thead><tr>",
        *(f'<th scope="col" class="{kind}">{head}</th>' for head, kind in _HEADS), "</tr></thead><tbody>",
        *(_row(one) for one in rows), "</tbody></table></main></body></html>", ""])


def _braced(style: str) -> str:
    """Style sheets have braces of their own, which must not meet: two in a row would be a template's."""
    return style.replace("{ ", "{\n").replace("}}", "}\n}")


def _row(drill: Drill) -> str:
    reason = "" if drill.outcome == PASSED else f"<small>{_marked_up(drill.error_code or '')}: {_marked_up(drill.message or '')}</small>"
    left = f"<small>left behind: {_marked_up(', '.join(drill.left))}</small>" if drill.left else ""
    phases = ", ".join(f"{name} {_duration(value)}" for name, value in (drill.seconds or {}).items())
    backup = [drill.backup_id or "none", f"data of {_when(drill.taken)}" if drill.taken else "", drill.consistency or ""]
    cells = (
        ("", f"{_marked_up(drill.vm_name)}<small>{_marked_up(drill.vm_id)}"
             f"<br>from {_marked_up(drill.source_host or 'an unknown host')}</small>"),
        ("", f'<span class="o {drill.outcome}">{drill.outcome}</span>{reason}{left}'),
        ("n", f"{_marked_up(_duration(drill.recovery_seconds))}<small>{_marked_up(phases)}</small>"),
        ("", f"{_marked_up(backup[0])}<small>{_marked_up(', '.join(part for part in backup[1:] if part))}</small>"),
        ("n", _marked_up(_size(drill.size))),
        ("", f"{_when(drill.began)}<small>on {_marked_up(drill.host)}; guest: {_marked_up(drill.os_name or 'unknown')}"
             f"<br>run {_marked_up(drill.run_id)}</small>"))
    return "<tr>" + "".join(f'<td class="{kind}">{cell}</td>' for kind, cell in cells) + "</tr>"


def _when(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "\u2013"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _size(size: int | None) -> str:
    if size is None:
        return "\u2013"
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"
