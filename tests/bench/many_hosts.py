# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many hosts: one ansible-playbook run, with the floor that ansible itself costs measured in the same run."""
from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from bench import client
from bench.hosts import ADMINISTRATOR, Hosts, Wish
from bench.tables import Table, middle, ratio

FORKS = 20
FLOOR, ECHO, FACTS = "ansible.builtin.debug", "return_recorded", "agentless.hyperv.hyperv_vm_info"
_SAMPLE_SECONDS = 0.5


@dataclass(frozen=True)
class TaskCost:
    """One task on all hosts: seconds."""

    wall: float
    cpu: float


@dataclass(frozen=True)
class Round:
    """One run of ansible-playbook: its tasks, the whole of it in seconds, and the largest memory of all its processes in bytes."""

    tasks: dict[str, TaskCost]
    wall: float
    cpu: float
    memory: int


def measure(wish: Wish, rounds: int, collections: Path) -> str:
    """The section of the report."""
    with TemporaryDirectory(prefix="bench-") as folder, Hosts(wish) as hosts:
        ports = dict(hosts.ports)
        first = next(iter(ports))
        recorded = client.record(ports[first])
        for port in list(ports.values())[1:]:
            client.record(port)  # a host makes its tables at the first question, which is not what is measured
        result = client.information(client.Player(recorded))
        Path(folder, "result.json").write_text(json.dumps(result), encoding="utf-8")
        tasks = [{"name": FLOOR, FLOOR: {"msg": "{{ inventory_hostname }}"}}, {"name": ECHO, ECHO: {}}, {"name": FACTS, FACTS: {}}]
        runs = [play(Path(folder), ports, collections, tasks if number % 2 == 0 else tasks[::-1], str(number)) for number in range(rounds)]
    parsing = client.cpu_of(lambda: client.parse(recorded), 5)
    whole = client.cpu_of(lambda: client.information(client.Player(recorded)), 5)
    return _report(wish, runs, (sum(len(answer) for answer in recorded), len(json.dumps(result))), parsing, whole)


def play(folder: Path, ports: dict[str, int], collections: Path, tasks: list[dict[str, Any]], title: str) -> Round:
    """One ansible-playbook run of named tasks on all hosts. RuntimeError when any of them failed anywhere."""
    hosts = {name.lower(): {"ansible_port": port} for name, port in ports.items()}
    common = {"ansible_connection": "winrm", "ansible_host": "127.0.0.1", "ansible_winrm_scheme": "http", "ansible_winrm_transport": "ntlm",
              "ansible_winrm_read_timeout_sec": 300,  # the hosts share the processors with whatever else runs
              "ansible_user": ADMINISTRATOR.name, "ansible_password": ADMINISTRATOR.password}
    plays = [{"hosts": "all", "gather_facts": False, "tasks": tasks}]
    inventory, playbook, record = folder / "inventory.yml", folder / "play.yml", folder / f"cost-{title}.jsonl"
    inventory.write_text(yaml.safe_dump({"all": {"hosts": hosts, "vars": common}}), encoding="utf-8")
    playbook.write_text(yaml.safe_dump(plays, sort_keys=False), encoding="utf-8")
    binaries = Path(sys.executable).parent
    environment = {
        "PATH": f"{binaries}:{os.environ.get('PATH', os.defpath)}", "HOME": str(folder), "LC_ALL": "C.UTF-8", "NO_COLOR": "1",
        "ANSIBLE_HOME": str(folder / "home"), "ANSIBLE_COLLECTIONS_PATH": str(collections), "ANSIBLE_NOCOWS": "1",
        "ANSIBLE_CALLBACK_PLUGINS": str(Path(__file__).parent / "callbacks"), "ANSIBLE_CALLBACKS_ENABLED": "cost",
        "ANSIBLE_LIBRARY": str(folder / "library"),
        "ANSIBLE_ACTION_PLUGINS": str(Path(__file__).parent / "action_plugins"),
        "COST_FILE": str(record), "RESULT_FILE": str(folder / "result.json")}
    log = folder / "output"
    with log.open("wb") as output:
        started = os.times().elapsed
        process = subprocess.Popen(  # noqa: S603  # nothing of it comes from outside
            [binaries / "ansible-playbook", "-i", inventory, playbook, "-f", str(FORKS)], env=environment, cwd=folder,
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        with _watching(process.pid) as largest:
            _unused, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = os.times().elapsed - started
    lines = [json.loads(line) for line in record.read_text(encoding="utf-8").splitlines()] if record.exists() else []
    if process.returncode or [line["ok"] for line in lines] != [len(ports)] * len(tasks):
        raise RuntimeError(f"ansible-playbook ended with {process.returncode}:\n{log.read_text(encoding='utf-8')[-3000:]}")
    return Round({line["task"]: TaskCost(line["wall"], line["cpu"]) for line in lines}, wall, used.ru_utime + used.ru_stime, largest[0])


@contextmanager
def _watching(root: int) -> Iterator[list[int]]:
    """The largest memory of a process and its descendants so far, in bytes; pages that they share count once."""
    largest, ended = [0], threading.Event()

    def watch() -> None:
        while not ended.wait(_SAMPLE_SECONDS):
            largest[0] = max(largest[0], sum(_proportional(pid) for pid in _tree(root)))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield largest
    finally:
        ended.set()
        watcher.join()


def _tree(root: int) -> list[int]:
    found = [root]
    for pid in found:
        try:
            for task in Path(f"/proc/{pid}/task").iterdir():
                found.extend(int(child) for child in (task / "children").read_text().split())
        except OSError:
            continue  # it ended meanwhile
    return found


def _proportional(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0  # likewise
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def _report(wish: Wish, runs: list[Round], sizes: tuple[int, int], parsing: float, whole: float) -> str:
    def each(task: str, what: str) -> float:
        return 1000 * middle(getattr(one.tasks[task], what) for one in runs) / wish.hosts

    floor, echo, facts = (each(task, "cpu") for task in (FLOOR, ECHO, FACTS))
    ratios = {task: [ratio(one.tasks[task].cpu, one.tasks[FLOOR].cpu) for one in runs] for task in (FLOOR, ECHO, FACTS)}
    costs = Table(("task", "wall, ms per host", "controller CPU, ms per host", "ratio to debug (CPU)", "ratio in each run"))
    for task, name in ((FLOOR, f"`{FLOOR}`"), (ECHO, "an action that only returns the same result"), (FACTS, f"`{FACTS}`")):
        costs.add(name, each(task, "wall"), each(task, "cpu"), middle(ratios[task]), " ".join(f"{value:.2f}" for value in ratios[task]))
    parts = Table(("part of the CPU of `hyperv_vm_info`", "ms per host", "share"))
    for name, value in (
            ("what `debug` costs, too: fork, templating, a small result", floor),
            (f"what ansible-core does with a result of {sizes[1] / 1024:,.0f} KB: pickling, cleaning, callbacks", echo - floor),
            (f"parsing and decoding {sizes[0] / 1024:,.0f} KB of answers", 1000 * parsing),
            ("joining rows, what each method would reach, building the result", 1000 * (whole - parsing)),
            ("log-on, sealing, HTTP, arguments", facts - echo - 1000 * whole)):
        parts.add(name, value, f"{100 * ratio(value, facts):.0f} %")
    return f"""## {wish.hosts} hosts with {wish.machines} VMs each, forks {FORKS}

One `ansible-playbook` run with three tasks on all hosts, in turning order; medians of {len(runs)} runs. CPU is user and system time of
ansible-playbook with all its workers, taken at the borders of the tasks; the simulated hosts run in a process of their own.

{costs.markdown()}
The whole run with its three tasks, start of ansible included: {middle(one.wall for one in runs):.1f} s wall,
{middle(one.cpu for one in runs):.1f} s CPU of the controller, {middle(one.memory for one in runs) / 2**20:,.0f} MB at most (all processes,
shared pages counted once; sampled every {_SAMPLE_SECONDS} s).

{parts.markdown()}
{_verdict(floor, echo, facts, 1000 * parsing)}
"""


def _verdict(floor: float, echo: float, facts: float, parsing: float) -> str:
    def against(base: float) -> str:
        allowed = 2 * base + parsing
        return f"{facts:.0f} ms against 2 x {base:.0f} + {parsing:.0f} = {allowed:.0f} ms: " + (
            "**reached**" if facts <= allowed else f"**missed by {100 * (facts / allowed - 1):.0f} %**")

    return f"""**Goal**: CPU per host-task at most twice that of `debug` plus the parsing.

* Against `debug` with its result of a few bytes: {against(floor)}.
* Against an action that does nothing but return the same result: {against(echo)}.

The difference between the two is what ansible-core itself does with each value of a result, in the worker and again in the parent
process: no module with an answer of this size is spared that. `readiness` is four fifths of the result, so `gather` without it is
the remedy where the reasons are not needed in each run. What remains is some twenty sealed messages and a log-on through pywinrm,
requests and urllib3, 1 to 2 ms each. The parent process looks at its workers every millisecond, which costs some 60 ms for each second
of waiting: the time that hosts take to answer, which is long where they share the processors, is charged here, too."""
