# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""HTML out of values: text is escaped because it is text, and only what :func:`element` made counts as markup.

Lines end inside of tags, where that means nothing: so they are short as long as each text is, and a host can store them.
"""
from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from typing import TypeAlias

from ansible_collections.agentless.hyperv.plugins.module_utils.protection.shown import shown

_NAME = re.compile(r"[a-z][a-z0-9-]*\Z", re.IGNORECASE)
VOID = frozenset(("meta", "input", "br"))


@dataclass(frozen=True)
class Html:
    """A piece of a page, as it is written."""

    text: str


Child: TypeAlias = "Html | str | int | Iterable[Child] | None"


def element(tag: str, /, *children: Child, **attributes: str | int | bool | None) -> Html:
    """One element. Strings are escaped, None is nothing; ``class_`` is *class*, ``_`` in a name is ``-``; True is an attribute without a
    value, None and False none. Raises ValueError for what is no name."""
    if not _NAME.match(tag):
        raise ValueError(f"no element: {tag!r}")
    written = "".join(_attribute(name, value) for name, value in attributes.items() if value is not None and value is not False)
    if tag in VOID:
        return Html(f"<{tag}{written}\n>")
    return Html(f"<{tag}{written}>{''.join(_texts(children))}</{tag}\n>")


def _attribute(name: str, value: str | int | bool) -> str:
    name = name.rstrip("_").replace("_", "-")
    if not _NAME.match(name):
        raise ValueError(f"no attribute: {name!r}")
    return f" {name}" if value is True else f' {name}="{escape(shown(str(value)))}"'


def _texts(children: Iterable[Child]) -> Iterable[str]:
    for child in children:
        if isinstance(child, Html):
            yield child.text
        elif isinstance(child, (str, int)):
            yield escape(shown(str(child)))
        elif child is not None:
            yield from _texts(child)


def ascii_page(*parts: Html) -> str:
    """A whole page in ASCII: every other character is a reference, so that no code page can damage it."""
    text = "<!DOCTYPE html>\n" + "".join(part.text for part in parts) + "\n"
    return text.encode("ascii", "xmlcharrefreplace").decode("ascii")
