# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether every link within the site leads to a page and a place that are there: ``python -m docsite.links FOLDER``.

Other sites are not asked.
"""
from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit


@dataclass
class Page:
    """What a page leads to, and the places in it that can be led to."""

    links: list[str] = field(default_factory=list)
    places: set[str] = field(default_factory=set)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.page = Page()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value for name, value in attrs if value is not None}
        self.page.places |= {values[name] for name in ("id", "name") if name in values}
        self.page.links += [values[name] for name in ("href", "src") if name in values]


def read(text: str) -> Page:
    """One page of HTML."""
    reader = _Reader()
    reader.feed(text)
    return reader.page


def broken(folder: Path) -> list[str]:
    """``page: link`` for each that leads nowhere."""
    pages = {path.resolve(): read(path.read_text(encoding="utf-8")) for path in sorted(folder.rglob("*.html"))}
    return [f"{path.relative_to(folder.resolve())}: {link}" for path, page in pages.items() for link in dict.fromkeys(page.links)
            if not _leads(path, link, pages)]


def _leads(path: Path, link: str, pages: Mapping[Path, Page]) -> bool:
    split = urlsplit(link)
    if split.scheme or split.netloc:
        return True
    target, place = urldefrag(link)
    found = (path.parent / unquote(urlsplit(target).path)).resolve() if target else path
    return found.exists() and (not place or found not in pages or unquote(place) in pages[found].places)


if __name__ == "__main__":
    sys.exit("\n".join(broken(Path(sys.argv[1]))) or 0)
