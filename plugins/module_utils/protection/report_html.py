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
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.report_hosts import findings, notes, size
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.report_rules import SEVERE, STATUSES, Problem
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
        element("main", _verdict(report), _tiles(report), _glance(report), _silent(report), _to_do(report), _prune(report), _chart(report),
                _hosts(report)),
        element("footer", "A copy is good when it is complete, verified and not inconsistent. Ages are by the clock of each host, times "
                          "are UTC. No copy is proved before it was restored."),
        element("script", Html(SCRIPT)))
    return ascii_page(element("html", head, body, lang="en"))


# -- pieces --------------------------------------------------------------------------------------------------------------


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


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
    rest = sum(counts[status] for status in ("unknown", "weaker", "attention")) + sum(1 for host in report.hosts if findings(host))
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


def _glance(report: Report) -> Html:
    """What else is asked each morning, in one line each."""
    told = [element("li", element("span", label, class_="dim"), " ", element("b", value)) for label, value in _facts(report)]
    return element("ul", told, class_="glance", aria_label="At a glance")


def _facts(report: Report) -> Iterator[tuple[str, Child]]:
    with_copy = [vm for vm in report.vms if vm.age is not None and vm.rpo is not None]
    if with_copy:
        oldest = max(with_copy, key=lambda vm: vm.age or timedelta())
        yield "Oldest last good copy", [f"{span(oldest.age or timedelta())}, ", _name(oldest.vm.name), " on ", _name(oldest.host)]
    doomed = [copy for vm in report.vms for copy in vm.doomed]
    yield "Next prune deletes", f"{_copies(len(doomed))}, {size(sum(copy.size for copy in doomed))}" if doomed else "nothing"
    day = next((day for day in reversed(report.days) if day.copies), None)
    if day is not None:
        yield f"Made on {day.date}", f"{_copies(day.copies)}, {size(day.size)}, the longest in {span_of(day.longest)}"
    lags = [vm.replica.lag for vm in report.vms if vm.replica is not None and vm.replica.lag is not None]
    if lags:
        yield "Replicas", f"at most {span(max(lags))} behind"
    for label, code, asked in (("Restore drills", "drill_overdue", sum(1 for vm in report.vms if vm.drilled is not None)),
                               ("Test failovers", "replica_test_overdue", report.tests)):
        if asked:
            yield label, f"{_with(report, code)} of {asked} overdue"


def _with(report: Report, code: str) -> int:
    return sum(1 for vm in report.vms if any(problem.code == code for problem in vm.problems))


def _copies(number: int) -> str:
    return f"{number} {'copy' if number == 1 else 'copies'}"


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
    hosts = [host for host in report.hosts if findings(host)]
    if not wrong and not report.nowhere and not hosts:
        return None
    parts: list[Child] = [element("h2", "What to do")]
    if report.nowhere:
        names = [item for name in report.nowhere for item in (", ", _name(name))][1:]
        parts.append(element("p", "Entries of backup_vms that no host of this report has: ", names, "."))
    if wrong or hosts:
        more = len(wrong) - MOST_TO_DO
        caption = f"The worst first. {more} more are listed at their hosts below." if more > 0 else "The worst first."
        parts.append(_table(caption, [("Status", None), ("Virtual machine", None), ("What is wrong", None), ("What to do", None)],
                            [*(_wrong(vm.status, [_name(vm.vm.name), element("small", "on ", _name(vm.host), class_="t")], vm.problems)
                               for vm in wrong[:MOST_TO_DO]),
                             *(_wrong("attention", [_name(host.name), element("small", "the host itself", class_="t")], findings(host))
                               for host in hosts)]))
    return parts


def _wrong(status: str, name: Child, problems: Sequence[Problem]) -> Html:
    advice = dict.fromkeys(problem.advice for problem in problems if problem.advice)
    return element(
        "tr", element("td", _chip(status)), element("th", name, scope="row"),
        element("td", [element("div", problem.text) for problem in problems]), element("td", [element("div", text) for text in advice]))


# -- what goes -----------------------------------------------------------------------------------------------------------


def _prune(report: Report) -> Child:
    doomed = [(vm, copy) for vm in report.vms for copy in vm.doomed]
    if not doomed:
        return None
    total = size(sum(copy.size for _vm, copy in doomed))
    more = len(doomed) - MOST_TO_DO
    rows = [element("tr", element("th", _name(vm.vm.name), element("small", "on ", _name(vm.host), class_="t"), scope="row"),
                    element("td", f"{copy.taken:%Y-%m-%d %H:%M}", class_="t"), element("td", size(copy.size), class_="n"),
                    element("td", _name(copy.folder))) for vm, copy in doomed[:MOST_TO_DO]]
    summary = element("summary", element("span", f"What the next prune deletes: {_copies(len(doomed))}, {total}", class_="name"),
                      element("span", "once the next copy of each virtual machine is there", class_="dim"))
    return element("details", summary,
                   element("p", f"{more} more are in report.json.", class_="dim") if more > 0 else None,
                   _table("", [("Virtual machine", None), ("Taken", None), ("Size", "n"), ("Folder", None)], rows), class_="prune")


# -- over time -----------------------------------------------------------------------------------------------------------


def _chart(report: Report) -> Child:
    days, top = report.days, max((day.size for day in report.days), default=0)
    if not top:
        return None
    longest = max(day.longest for day in days)
    about = (f"{size(sum(day.size for day in days))} in {_copies(sum(day.copies for day in days))} that are still there, by the day on "
             f"which they were made. The highest bar is {size(top)}.")
    long = f"The longest copy of each day. The highest bar is {span_of(longest)}."
    return [element("h2", "The last 30 days"),
            element("div", _bars("Bytes", about, days, [day.size / top for day in days]),
                    _bars("Duration", long, days, [day.longest / max(longest, 1) for day in days]), class_="charts")]


def _bars(name: str, about: str, days: Sequence[Day], heights: Sequence[float]) -> Html:
    """One bar for each day; ``heights`` from 0 to 1."""
    bars = [_bar(number, day, round(100 * height)) for number, (day, height) in enumerate(zip(days, heights, strict=True))]
    svg = element("svg", bars, viewBox=f"0 0 {len(days) * 20} 100", role="img", aria_label=f"{name}. {about}", preserveAspectRatio="none")
    dates = element("div", element("span", days[0].date), element("span", days[-1].date), class_="dates dim", aria_hidden="true")
    return element("figure", element("b", name), svg, dates, element("figcaption", about, class_="dim"), class_="chart")


def _bar(number: int, day: Day, height: int) -> Html:
    about = f"{day.date}: {_copies(day.copies)}, {size(day.size)}, longest {span_of(day.longest)}"
    return element("rect", element("title", about), x=number * 20 + 2, y=100 - max(height, 2), width=16, height=max(height, 2),
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
    proved = any(_proved(vm) is not None for vm in report.vms)
    return [element("h2", "Hosts and their virtual machines"), tools, [
        _host(host, by_host[host.name], opened, proved) for host in answered]]


def _host(host: HostFacts, vms: Sequence[VmReport], opened: bool, proved: bool) -> Html:
    counts = Counter(vm.status for vm in vms)
    about = " · ".join(filter(None, (host.release and f"Windows Server {host.release}", host.cluster and f"cluster {host.cluster}")))
    summary = element("summary", element("span", _name(host.name), class_="name"), element("span", about, class_="dim"),
                      [_chip(status, counts[status]) for status in STATUSES if counts[status]])
    told = list(notes(host))
    table = _table("", _COLUMNS if proved else _COLUMNS[:-1], (_row(vm, proved) for vm in vms)) if vms else element(
        "p", "This host has no virtual machine that the account can see.", class_="dim")
    return element("details", summary, element("ul", [element("li", one) for one in told], class_="notes") if told else None, table,
                   class_="host", open=opened and any(vm.status not in ("ok", "left_out", "replica") for vm in vms))


_COLUMNS: Sequence[tuple[str, str | None]] = (
    ("Status", None), ("Virtual machine", None), ("Policy", None), ("Last good copy", None), ("Consistency", None), ("Size", "n"),
    ("Copies", "n"), ("Next prune", "n"), ("Replica", None), ("Checkpoints", "n"),
    ("Proved", None))


def _row(vm: VmReport, proved: bool) -> Html:
    last, policy = vm.last, vm.vm.policy
    doomed: Child = [len(vm.doomed), element("small", size(sum(copy.size for copy in vm.doomed)))] if vm.doomed else None
    return element(
        "tr", element("td", _chip(vm.status)), element("th", _name(vm.vm.name), element("small", vm.vm.state), scope="row"),
        element("td", _name(policy.name) if policy else None), element("td", _last(vm), class_="t"),
        element("td", None if last is None else last.achieved,
                None if last is None or last.achieved == last.requested else element("small", f"asked: {last.requested}")),
        element("td", None if last is None else [size(last.size), element("small", f"in {span_of(_took(last))}")], class_="n"),
        element("td", vm.good if policy is not None or vm.good else None, class_="n"), element("td", doomed, class_="n"),
        element("td", _replica(vm), class_="t"), element("td", vm.vm.checkpoints or None, class_="n"),
        element("td", _proved(vm), class_="t") if proved else None)


def _proved(vm: VmReport) -> Child:
    """When it was shown last that it comes back: by a drill, for a replica by a test failover."""
    if vm.drilled is not None:
        failed = element("small", "the last one failed") if vm.drilled.outcome == "failed" else None
        return [f"{vm.drilled.passed:%Y-%m-%d}" if vm.drilled.passed is not None else "never", failed]
    return f"{vm.tested:%Y-%m-%d}" if vm.tested is not None else None


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
