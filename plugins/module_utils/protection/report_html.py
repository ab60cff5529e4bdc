# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report as one page that needs nothing else: what is wrong first, then what to do, then every VM by its host."""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta

from ansible_collections.agentless.hyperv.plugins.module_utils.protection.freshness import span
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.markup import Child, Html, ascii_page, element
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.report import Day, Report, VmReport, utc
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.report_facts import CopyFacts, HostFacts
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.report_rules import SEVERE, STATUSES
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.report_style import CSS, SCRIPT, policy

WORDS = {
    "unprotected": "Unprotected", "no_copy": "No good copy", "overdue": "Overdue", "failed": "Failed", "unknown": "Not known",
    "weaker": "Weaker than asked", "attention": "Look at it", "ok": "OK", "left_out": "Left out", "replica": "Replica"}
_TONES = {**dict.fromkeys(SEVERE, "bad"), "unknown": "warn", "weaker": "warn", "attention": "warn", "ok": "good", "left_out": "calm",
          "replica": "calm"}
_SIGNS = {"bad": "\u2716", "warn": "\u26a0", "good": "\u2714", "calm": "\u2013"}
MOST_TO_DO = 200
"""Rows of the list of what to do; what does not fit is counted, and stands at its host."""
_OPEN_HOSTS = 12


def as_html(report: Report) -> str:
    """The page, in ASCII."""
    head = element(
        "head", element("meta", charset="utf-8"), element("meta", http_equiv="Content-Security-Policy", content=policy()),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="referrer", content="no-referrer"), element("title", report.title), element("style", Html(CSS)))
    body = element(
        "body",
        element("header", element("h1", report.title), element(
            "p", f"{utc(report.made)} · {_count(len(report.hosts), 'host')} · {_count(len(report.vms), 'virtual machine')}", class_="dim")),
        element("main", _verdict(report), _tiles(report), _silent(report), _to_do(report), _chart(report), _hosts(report)),
        element("footer", "A copy is good when it is complete, verified and not inconsistent. Ages are by the clock of each host, times "
                          "are UTC. No copy is proved before it was restored."),
        element("script", Html(SCRIPT)))
    return ascii_page(element("html", head, body, lang="en"))


# -- pieces --------------------------------------------------------------------------------------------------------------


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def size(number: int) -> str:
    """Bytes for people: ``41.2 GiB``."""
    value = float(number)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{int(value)} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def _name(text: str) -> Html:
    """A name that others gave: apart in its direction of writing."""
    return element("bdi", text or "(no name)")


def _chip(status: str, number: int | None = None) -> Html:
    tone = _TONES[status]
    return element("span", f"{_SIGNS[tone]} {'' if number is None else f'{number} '}{WORDS[status]}", class_=f"chip {tone}")


def _table(caption: str, columns: Sequence[tuple[str, str | None]], rows: Iterable[Html]) -> Html:
    head = element("tr", [element("th", name, scope="col", class_=kind) for name, kind in columns])
    return element("div", element("table", element("caption", caption) if caption else None, element("thead", head),
                                  element("tbody", list(rows))), class_="scroll", tabindex=0, role="region",
                   aria_label=caption or "Table")


# -- at a glance ---------------------------------------------------------------------------------------------------------


def _verdict(report: Report) -> Html:
    counts = report.counts
    severe = sum(counts[status] for status in SEVERE)
    rest = sum(counts[status] for status in ("unknown", "weaker", "attention"))
    if severe or report.silent:
        told = [f"{_count(counts['unprotected'], 'virtual machine')} without any protection" if counts["unprotected"] else "",
                f"{counts['no_copy'] + counts['overdue'] + counts['failed']} without a copy as good as promised"
                if severe > counts["unprotected"] else "",
                f"{_count(len(report.silent), 'host')} without an answer" if report.silent else ""]
        tone, text = "bad", ", ".join(filter(None, told)) + "."
    elif rest or report.nowhere:
        tone, text = "warn", f"Every virtual machine has its copies, and {_count(rest + len(report.nowhere), 'thing')} should be looked at."
    else:
        tone, text = "good", "Every virtual machine is protected as its policy says."
    return element("p", f"{_SIGNS[tone]} {text}", class_=f"verdict {tone}", role="status")


def _tiles(report: Report) -> Html:
    shown = [status for status in STATUSES if report.counts[status] or status in ("unprotected", "ok")]
    tone = {status: _TONES[status] if report.counts[status] else "calm" for status in shown}
    return element("ul", [element("li", element("b", report.counts[status]), element("span", WORDS[status]), class_=tone[status])
                          for status in shown], class_="tiles", aria_label="Virtual machines by status")


def _silent(report: Report) -> Child:
    if not report.silent:
        return None
    rows = [element("tr", element("th", _name(host.name), scope="row"), element("td", host.error_code), element("td", host.msg))
            for host in report.silent]
    return [element("h2", "Hosts that gave no answer"),
            element("p", "Nothing is known of their virtual machines.", class_="dim"),
            _table("", [("Host", None), ("Error", None), ("What it says", None)], rows)]


# -- what to do ----------------------------------------------------------------------------------------------------------


def _to_do(report: Report) -> Child:
    wrong = [vm for vm in report.vms if vm.problems and vm.status not in ("ok", "left_out", "replica")]
    if not wrong and not report.nowhere:
        return None
    parts: list[Child] = [element("h2", "What to do")]
    if report.nowhere:
        names = [item for name in report.nowhere for item in (", ", _name(name))][1:]
        parts.append(element("p", "Entries of backup_vms that no host of this report has: ", names, "."))
    if wrong:
        more = len(wrong) - MOST_TO_DO
        caption = f"The worst first. {more} more are listed at their hosts below." if more > 0 else "The worst first."
        parts.append(_table(caption, [("Status", None), ("Virtual machine", None), ("What is wrong", None), ("What to do", None)],
                            (_wrong(vm) for vm in wrong[:MOST_TO_DO])))
    return parts


def _wrong(vm: VmReport) -> Html:
    advice = dict.fromkeys(problem.advice for problem in vm.problems if problem.advice)
    return element(
        "tr", element("td", _chip(vm.status)),
        element("th", _name(vm.vm.name), element("small", "on ", _name(vm.host), class_="t"), scope="row"),
        element("td", [element("div", problem.text) for problem in vm.problems]), element("td", [element("div", text) for text in advice]))


# -- over time -----------------------------------------------------------------------------------------------------------


def _chart(report: Report) -> Child:
    days, top = report.days, max((day.size for day in report.days), default=0)
    if not top:
        return None
    bars = [_bar(number, day, top) for number, day in enumerate(days)]
    copies = sum(day.copies for day in days)
    about = (f"{size(sum(day.size for day in days))} in {copies} {'copy' if copies == 1 else 'copies'} that are still there, by the day on "
             f"which they were made. The highest bar is {size(top)}; the longest copy took {span_of(max(day.longest for day in days))}.")
    svg = element("svg", bars, viewBox=f"0 0 {len(days) * 20} 100", role="img", aria_label=about, preserveAspectRatio="none")
    dates = element("div", element("span", days[0].date), element("span", days[-1].date), class_="dates dim", aria_hidden="true")
    return [element("h2", "The last 30 days"),
            element("figure", svg, dates, element("figcaption", about, class_="dim"), class_="chart")]


def _bar(number: int, day: Day, top: int) -> Html:
    height = max(round(100 * day.size / top), 2)
    about = f"{day.date}: {day.copies} {'copy' if day.copies == 1 else 'copies'}, {size(day.size)}, longest {span_of(day.longest)}"
    return element("rect", element("title", about), x=number * 20 + 2, y=100 - height, width=16, height=height,
                   class_=None if day.copies else "none")


def span_of(seconds: int) -> str:
    """Seconds for people: ``40 s``, ``12 min``, ``3.5 h``."""
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


# -- every VM ------------------------------------------------------------------------------------------------------------


def _hosts(report: Report) -> Child:
    answered = [host for host in report.hosts if host.error_code is None]
    by_host: dict[str, list[VmReport]] = {host.name: [] for host in answered}
    for vm in report.vms:
        by_host[vm.host].append(vm)
    tools = element(
        "div", element("label", "Find ", element("input", type="search", id="find", placeholder="a name, a policy, a status")),
        element("button", "Open all", id="open", type="button"), element("button", "Close all", id="close", type="button"),
        element("span", id="found", class_="dim", role="status"), id="tools", class_="tools", hidden=True)
    opened = len(answered) <= _OPEN_HOSTS
    return [element("h2", "Hosts and their virtual machines"), tools, [_host(host, by_host[host.name], opened) for host in answered]]


def _host(host: HostFacts, vms: Sequence[VmReport], opened: bool) -> Html:
    counts = Counter(vm.status for vm in vms)
    about = " · ".join(filter(None, (host.release and f"Windows Server {host.release}", host.cluster and f"cluster {host.cluster}")))
    summary = element("summary", element("span", _name(host.name), class_="name"), element("span", about, class_="dim"),
                      [_chip(status, counts[status]) for status in STATUSES if counts[status]])
    notes = list(_notes(host))
    rows = (_row(vm) for vm in vms)
    table = _table("", _COLUMNS, rows) if vms else element("p", "This host has no virtual machine that the account can see.", class_="dim")
    return element("details", summary, element("ul", [element("li", note) for note in notes], class_="notes") if notes else None, table,
                   class_="host", open=opened and any(vm.status not in ("ok", "left_out", "replica") for vm in vms))


def _notes(host: HostFacts) -> Iterator[str]:
    """What is to be said of the host itself."""
    yield from (f"The policies mean nothing: {problem}" for problem in host.problems)
    for one in host.destinations:
        if not one.read:
            yield f"{one.path} could not be read ({one.error_code}): {one.msg}"
            continue
        told = (f"{size(one.free)} free" if one.free is not None else "", f"{one.damaged} damaged" if one.damaged else "",
                f"{one.incomplete} incomplete" if one.incomplete else "")
        yield f"{one.path}: {', '.join(filter(None, told)) or 'read'}"
    shadows = host.shadow_copies or {}
    if any(shadows.values()):
        oldest = "" if host.oldest_shadow is None else f", the oldest is {span_of(int(host.oldest_shadow))} old"
        yield "Shadow copies: " + ", ".join(f"{number} {owner}" for owner, number in shadows.items() if number) + oldest
    if abs(host.clock_skew) > 300:
        where = "ahead of" if host.clock_skew > 0 else "behind"
        yield f"Its clock is {span(timedelta(seconds=abs(host.clock_skew)))} {where} the controller's."


_COLUMNS: Sequence[tuple[str, str | None]] = (
    ("Status", None), ("Virtual machine", None), ("Policy", None), ("Last good copy", None), ("Consistency", None), ("Size", "n"),
    ("Copies", "n"), ("Next prune", "n"), ("Replica", None), ("Checkpoints", "n"))


def _row(vm: VmReport) -> Html:
    last, policy = vm.last, vm.vm.policy
    doomed: Child = [len(vm.doomed), element("small", size(sum(copy.size for copy in vm.doomed)))] if vm.doomed else None
    return element(
        "tr", element("td", _chip(vm.status)), element("th", _name(vm.vm.name), element("small", vm.vm.state), scope="row"),
        element("td", _name(policy.name) if policy else None), element("td", _last(vm), class_="t"),
        element("td", None if last is None else last.achieved,
                None if last is None or last.achieved == last.requested else element("small", f"asked: {last.requested}")),
        element("td", None if last is None else [size(last.size), element("small", f"in {span_of(_took(last))}")], class_="n"),
        element("td", vm.good if policy is not None or vm.good else None, class_="n"), element("td", doomed, class_="n"),
        element("td", _replica(vm), class_="t"), element("td", vm.vm.checkpoints or None, class_="n"))


def _last(vm: VmReport) -> Child:
    allowed = f"{span(vm.rpo)} allowed" if vm.rpo is not None else ""
    if vm.last is None or vm.age is None:
        return ["none", element("small", allowed) if allowed else None] if vm.vm.policy is not None else None
    return [f"{span(vm.age)} ago", element("small", " · ".join(filter(None, (f"{vm.last.taken:%Y-%m-%d %H:%M}", allowed))))]


def _took(copy: CopyFacts) -> int:
    return int((copy.completed - copy.taken).total_seconds())


def _replica(vm: VmReport) -> Child:
    if vm.replica is None:
        return vm.vm.replication_mode if vm.vm.is_replica else None
    return [vm.replica.health, None if vm.replica.lag is None else element("small", f"{span(vm.replica.lag)} behind")]
