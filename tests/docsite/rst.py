# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Markdown of the project's pages as reStructuredText: headings, paragraphs, lists, tables, code and links, and nothing else."""
from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Sequence

from markdown_it import MarkdownIt
from markdown_it.token import Token

REPOSITORY = "https://github.com/agentless-hyperv/agentless.hyperv"
UNDERLINES = {"h1": "=", "h2": "-", "h3": "~"}
_SPECIAL = re.compile(r"([\\*`|_])")
_ROLE = re.compile(r"roles/(\w+)/README\.md")
_PAGE = re.compile(r"docs/([\w-]+)\.md")
_FILE = re.compile(r"docs/([\w.-]+\.json)")


def convert(text: str, place: str = "docs/page.md") -> str:
    """A page that lies at ``place`` in the repository. Raises ValueError for Markdown that no page of ours has used so far."""
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    return "\n".join(_Writer(tokens, place).blocks()) + "\n"


def page_name(place: str) -> str | None:
    """The name of a page on the site, below ``guides``; None for a file that is no page there."""
    if place == "README.md":
        return "overview"
    role, page = _ROLE.fullmatch(place), _PAGE.fullmatch(place)
    return f"role_{role.group(1)}" if role else page.group(1) if page else None


def anchor(title: str) -> str:
    """The name of a heading in a link, as GitHub makes it."""
    return re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", title.lower()))


class _Writer:
    """Walks the tokens of a page, or of a part of one."""

    def __init__(self, tokens: Sequence[Token], place: str) -> None:
        self._tokens = tokens
        self._place = place
        self._at = 0

    def blocks(self) -> Iterator[str]:
        """Lines, with an empty one after each block."""
        while self._at < len(self._tokens):
            token = self._tokens[self._at]
            inside = self._inside(token)
            yield from self._block(token, inside)
            yield ""

    def _inside(self, token: Token) -> Sequence[Token]:
        """The tokens between an opening one and its end; moves behind them."""
        start = self._at + 1
        self._at = start
        if token.nesting == 1:
            depth = 1
            while depth:
                depth += self._tokens[self._at].nesting
                self._at += 1
            return self._tokens[start:self._at - 1]
        return ()

    def _block(self, token: Token, inside: Sequence[Token]) -> Iterator[str]:
        if token.type == "heading_open":
            title = self._inline(inside[0])
            if token.tag != "h1":
                plain = "".join(child.content for child in inside[0].children or ())
                yield from (f".. _{page_name(self._place)}--{anchor(plain)}:", "")
            yield from (title, UNDERLINES[token.tag] * max(4, len(title)))
        elif token.type == "paragraph_open":
            yield self._inline(inside[0])
        elif token.type in ("fence", "code_block"):
            yield from (f".. code-block:: {token.info.strip() or 'text'}", "")
            yield from (f"    {line}".rstrip() for line in token.content.rstrip("\n").split("\n"))
        elif token.type in ("bullet_list_open", "ordered_list_open"):
            yield from self._list(inside, "*" if token.type == "bullet_list_open" else "#.")
        elif token.type == "table_open":
            yield from self._table(inside)
        elif token.type != "html_block":
            raise ValueError(f"no way to write {token.type}")

    def _list(self, inside: Sequence[Token], mark: str) -> Iterator[str]:
        for item in _parts(inside, "list_item_open"):
            lines = list(_Writer(item, self._place).blocks())
            while lines and not lines[-1]:
                lines.pop()
            pad = " " * (len(mark) + 1)
            yield f"{mark} {lines[0]}"
            yield from (f"{pad}{line}".rstrip() for line in lines[1:])

    def _table(self, inside: Sequence[Token]) -> Iterator[str]:
        rows = [[self._inline(cell[0]) for cell in _parts(row, ("th_open", "td_open"))] for row in _parts(inside, "tr_open")]
        yield from (".. list-table::", "   :header-rows: 1", "   :widths: auto", "")
        for row in rows:
            for number, cell in enumerate(row):
                yield f"   {'* -' if number == 0 else '  -'} {cell}".rstrip()

    def _inline(self, token: Token) -> str:
        """The text of one paragraph, heading or cell, on one line."""
        parts: list[str] = []
        links: list[str] = []
        strong = 0
        for child in token.children or ():
            if child.type == "link_open":
                links.append(str(child.attrs["href"]))
                parts.append("\0")
            elif child.type == "link_close":
                at = len(parts) - 1 - parts[::-1].index("\0")
                label, parts[at:] = "".join(parts[at + 1:]), []
                parts.append(_link(label, links.pop(), self._place))
            else:
                strong += {"strong_open": 1, "strong_close": -1}.get(child.type, 0)
                parts.append(_text(child, plain=bool(links or strong)))  # nothing can stand inside of a link or of strong text
        return re.sub(r"(?:\\ )+(?=\s|$)|^(?:\\ )+|(?<=\s)(?:\\ )+", "", "".join(parts)).strip()


def _parts(tokens: Sequence[Token], kinds: str | tuple[str, ...]) -> Iterator[Sequence[Token]]:
    """What is inside of each token of these kinds, one beside the other."""
    wanted = (kinds,) if isinstance(kinds, str) else kinds
    at = 0
    while at < len(tokens):
        if tokens[at].type in wanted:
            depth, start = 1, at + 1
            while depth:
                at += 1
                depth += tokens[at].nesting
            yield tokens[start:at]
        at += 1


def _text(child: Token, *, plain: bool) -> str:
    if child.type == "text":
        return _SPECIAL.sub(r"\\\1", child.content)
    if child.type == "code_inline":
        return _SPECIAL.sub(r"\\\1", child.content) if plain else f"\\ ``{child.content}``\\ "
    if child.type in ("softbreak", "hardbreak"):
        return " "
    return {"strong_open": "\\ **", "strong_close": "**\\ ", "em_open": "\\ *", "em_close": "*\\ "}.get(child.type, "")


def _link(label: str, target: str, place: str) -> str:
    """A link as it works on the site: to its pages and headings, to files that it carries, to the repository for everything else."""
    if "://" in target:
        return f"\\ `{label} <{target}>`__\\ "
    path, _unused, heading = target.partition("#")
    path = posixpath.normpath(posixpath.join(posixpath.dirname(place), path)) if path else place
    page, file = page_name(path), _FILE.fullmatch(path)
    if page and heading:
        return f"\\ :ref:`{label} <{page}--{heading}>`\\ "
    if page:
        return f"\\ :doc:`{label} </guides/{page}>`\\ "
    return f"\\ `{label} <{f'../{file.group(1)}' if file else f'{REPOSITORY}/blob/main/{path}'}>`__\\ "
