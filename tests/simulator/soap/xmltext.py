# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""XML of the SOAP layer: the one place where text becomes XML, and a parser that refuses what an envelope may not hold."""
from __future__ import annotations

import re
from xml.etree import ElementTree as ET

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f]")
_TEXT = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;"}
_ATTRIBUTE = {**_TEXT, '"': "&quot;", "\t": "&#9;", "\n": "&#10;"}
_TEXT_PATTERN = re.compile("[&<>\r]")
_ATTRIBUTE_PATTERN = re.compile("[&<>\r\"\t\n]")


class MalformedXml(Exception):
    """The bytes are no well-formed XML, or hold a document type, which SOAP forbids."""


class _Builder(ET.TreeBuilder):
    """A tree builder that stops at a document type: entities never get a chance to expand."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        """Called by the parser for ``<!DOCTYPE``."""
        raise MalformedXml(f"document type {name}")


def text(value: str) -> str:
    """``value`` as XML character data; control characters become ``?`` as on Windows (wire 2.5)."""
    return _TEXT_PATTERN.sub(lambda match: _TEXT[match[0]], _CONTROL.sub("?", value))


def attribute(value: str) -> str:
    """``value`` as an attribute value with its double quotes."""
    return '"' + _ATTRIBUTE_PATTERN.sub(lambda match: _ATTRIBUTE[match[0]], _CONTROL.sub("?", value)) + '"'


def parse(body: bytes | str) -> ET.Element:
    """The root element of a document; raises :class:`MalformedXml`."""
    parser = ET.XMLParser(target=_Builder())  # noqa: S314 - a document type is refused above
    try:
        parser.feed(body)
        root = parser.close()
    except (ET.ParseError, ValueError) as error:
        raise MalformedXml(str(error)) from error
    if not isinstance(root, ET.Element):
        raise MalformedXml("no document element")
    return root
