# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``python -m bench``: measure, and write ``docs/performance.md``.

``--quick`` takes small numbers, to see that everything works; its figures mean little and go to the screen only.
"""
from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
COLLECTIONS = CHECKOUT / ".build" / "path"
sys.path[:0] = [str(CHECKOUT / "tests"), str(COLLECTIONS)]

from bench import checkpoints, copies, exports, facts, fleet_copies, many_hosts, nights, replicas  # noqa: E402  # the path has to be there first
from bench.hosts import Wish  # noqa: E402

SECTIONS = ("facts", "copies", "checkpoints", "exports", "fleet", "hosts", "nights", "replicas")
_PACKAGES = ("ansible-core", "pywinrm", "requests", "pyspnego")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measures the collection against simulated hosts.")
    parser.add_argument("--quick", action="store_true", help="small numbers, less than a minute; writes no file unless --output is given")
    parser.add_argument("--only", choices=SECTIONS, help="one section; writes no file unless --output is given")
    parser.add_argument("--output", type=Path, help="file to write (default: docs/performance.md)")
    options = parser.parse_args(arguments)
    quick = options.quick or bool(os.environ.get("QUICK"))
    _link_collection()
    sections: dict[str, Callable[[], str]] = {
        "facts": lambda: facts.measure((5, 20, 50), 1, 5) if quick else facts.measure((10, 100, 1000), 3, 100),
        "copies": copies.measure,
        "checkpoints": checkpoints.measure,
        "exports": lambda: exports.measure(20 if quick else 1000),
        "fleet": lambda: fleet_copies.measure(10 if quick else 200, 5, COLLECTIONS),
        "hosts": lambda: many_hosts.measure(Wish(10, 5), 1, COLLECTIONS) if quick else many_hosts.measure(Wish(200, 20), 3, COLLECTIONS),
        "nights": lambda: nights.measure((4, 8), 3, 8, COLLECTIONS) if quick else nights.measure((50, 200, 500), 20, 200, COLLECTIONS),
        "replicas": lambda: replicas.measure(3, 20) if quick else replicas.measure(20, 200),
    }
    written = [_head(quick)]
    for name in SECTIONS if options.only is None else (options.only,):
        began = time.monotonic()
        written.append(sections[name]())
        sys.stderr.write(f"{name}: {time.monotonic() - began:.0f} s\n")
    text = "\n".join(written)
    output = options.output or (None if quick or options.only else CHECKOUT / "docs" / "performance.md")
    sys.stdout.write(text)
    if output is not None:
        output.write_text(text, encoding="utf-8")
    return 0


def _link_collection() -> None:
    link = COLLECTIONS / "ansible_collections" / "agentless" / "hyperv"
    if not link.exists():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(CHECKOUT, target_is_directory=True)


def _head(quick: bool) -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    note = "\n**Small numbers: these figures only show that the measurement works.**\n" if quick else ""
    return f"""# What it costs

Written by `make bench`; `make bench QUICK=1` is the same with small numbers and leaves this file alone. The hosts are simulated: counts and
bytes are exact for them, and a real host may cut pages otherwise. Times are those of one machine: {os.cpu_count()} processors, Python
{platform.python_version()}, {packages}.
Read ratios, not seconds. Client and simulated hosts share the processors, which also makes each of them a little slower while the other
works. `docs/fidelity.md` says what of the simulated hosts is recorded and what is inferred.
{note}"""


if __name__ == "__main__":
    sys.exit(main())
