# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guides and roles' pages for the documentation site: ``python -m docsite FOLDER`` writes them there as reStructuredText, with an index."""
from __future__ import annotations

import sys
from pathlib import Path

from docsite.rst import convert

CHECKOUT = Path(__file__).resolve().parents[2]
SECTIONS = {
    "Getting started": ("first-backup", "destinations", "preflight", "other-tools"),
    "Understanding": ("consistency", "report", "inventory", "restore", "replica", "manifest"),
    "Operating": ("awx", "troubleshooting", "errors", "security", "privileges", "coexistence", "performance", "fidelity"),
}
"""The guides in their order. A page that is in none of them is added to the last."""


def index(pages: set[str]) -> str:
    """The first page of the site."""
    listed = [name for names in SECTIONS.values() for name in names]
    parts = ["agentless.hyperv", "================", "",
             "Protects Hyper-V virtual machines across a fleet with Ansible, without an agent or PowerShell.", ""]
    for title, names in SECTIONS.items():
        chosen = [name for name in names if name in pages]
        if title == list(SECTIONS)[-1]:
            chosen += sorted(pages - set(listed))
        parts += [".. toctree::", "   :maxdepth: 1", f"   :caption: {title}", "", *(f"   guides/{name}" for name in chosen), ""]
    parts += [".. toctree::", "   :maxdepth: 1", "   :caption: Reference", "", "   All modules, roles and plugins <index_reference>", ""]
    return "\n".join(parts)


def main(folder: Path) -> None:
    """Write the pages below ``folder``, which has those of antsibull-docs already."""
    guides = folder / "guides"
    guides.mkdir(parents=True, exist_ok=True)
    pages = {path.stem: path for path in sorted((CHECKOUT / "docs").glob("*.md"))}
    for name, path in pages.items():
        (guides / f"{name}.rst").write_text(convert(path.read_text(encoding="utf-8")), encoding="utf-8")
    (folder / "index.rst").rename(folder / "index_reference.rst")
    (folder / "index.rst").write_text(index(set(pages)), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
