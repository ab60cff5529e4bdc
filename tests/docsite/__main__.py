# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Overview, guides and roles of the documentation site: ``python -m docsite FOLDER`` writes them there as reStructuredText."""
from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from docsite.rst import convert, page_name

CHECKOUT = Path(__file__).resolve().parents[2]
SECTIONS = {
    "Getting started": ("overview", "first-backup", "destinations", "preflight", "other-tools"),
    "Understanding": ("consistency", "report", "inventory", "restore", "replica", "manifest"),
    "Operating": ("awx", "troubleshooting", "errors", "security", "privileges", "append-only-target", "coexistence", "performance",
                  "fidelity"),
}
"""The guides in their order. A page that is in none of them is added to the last; roles have a section of their own."""
TITLES = {"overview": "Overview"}
"""What a page is called in the index, where that is not its own headline."""


def sources() -> dict[str, str]:
    """Every page: its name on the site, and its place in the repository."""
    found = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").glob("*.md")), *sorted((CHECKOUT / "roles").glob("*/README.md"))]
    places = [path.relative_to(CHECKOUT).as_posix() for path in found]
    return {name: place for place in places if (name := page_name(place)) is not None}


def index(pages: Iterable[str]) -> str:
    """The first page of the site."""
    names = set(pages)
    roles = sorted(name for name in names if name.startswith("role_"))
    listed = {name for several in SECTIONS.values() for name in several}
    parts = ["agentless.hyperv", "================", "",
             "Protects Hyper-V virtual machines across a fleet with Ansible, without an agent or PowerShell.", ""]
    for title, chosen in SECTIONS.items():
        rest = sorted(names - listed - set(roles)) if title == list(SECTIONS)[-1] else []
        parts += _section(title, [_entry(name) for name in (*chosen, *rest) if name in names])
    parts += _section("Roles", [f"{name.removeprefix('role_')} <guides/{name}>" for name in roles])
    parts += _section("Reference", ["All modules, roles and plugins <index_reference>"])
    return "\n".join(parts)


def _entry(name: str) -> str:
    return f"{TITLES[name]} <guides/{name}>" if name in TITLES else f"guides/{name}"


def _section(title: str, entries: Iterable[str]) -> list[str]:
    return [".. toctree::", "   :maxdepth: 1", f"   :caption: {title}", "", *(f"   {entry}" for entry in entries), ""]


def page(name: str, place: str) -> str:
    """One page; that of a role also leads to its options."""
    written = convert((CHECKOUT / place).read_text(encoding="utf-8"), place)
    role = name.removeprefix("role_")
    return written if role == name else f"{written}\nEvery variable with its type and default: :doc:`reference </{role}_role>`.\n"


def main(folder: Path) -> None:
    """Write the pages below ``folder``, which has those of antsibull-docs already."""
    guides, extra = folder / "guides", folder / "extra"
    for made in (guides, extra):
        made.mkdir(parents=True, exist_ok=True)
    for name, place in sources().items():
        (guides / f"{name}.rst").write_text(page(name, place), encoding="utf-8")
    for schema in (CHECKOUT / "docs").glob("*.json"):
        shutil.copy(schema, extra)
    (folder / "index.rst").rename(folder / "index_reference.rst")
    (folder / "index.rst").write_text(index(sources()), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
