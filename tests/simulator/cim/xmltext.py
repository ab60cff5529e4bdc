# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one place of the CIM part where text becomes XML, and XML text becomes a tree."""
from __future__ import annotations

import re
from typing import Final
from xml.etree import ElementTree as ET

XSI: Final = "http://www.w3.org/2001/XMLSchema-instance"
ADDRESSING: Final = "http://schemas.xmlsoap.org/ws/2004/08/addressing"
WSMAN: Final = "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd"
COMMON: Final = "http://schemas.dmtf.org/wbem/wscim/1/common"
ANONYMOUS: Final = ADDRESSING + "/role/anonymous"

_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_SPECIAL = re.compile('[&<>"\r\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]')


class MalformedXml(ValueError):
    """No well-formed XML, or XML with a document type."""


class _Builder(ET.TreeBuilder):
    """Stops at a document type, so that entities never expand."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        """Called by the parser for ``<!DOCTYPE``."""
        raise MalformedXml(f"document type {name}")


def text(value: str) -> str:
    """``value`` as character data; characters that XML cannot hold become ``?`` as on Windows (wire 2.5)."""
    if _SPECIAL.search(value) is None:
        return value
    value = _FORBIDDEN.sub("?", value)
    return value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\r", "&#13;")


def attribute(value: str) -> str:
    """``value`` as an attribute value with its quotes."""
    value = text(value).replace('"', "&quot;").replace("\t", "&#9;").replace("\n", "&#10;")
    return f'"{value}"'


def parse(source: str | bytes) -> ET.Element:
    """The root element of an XML document; raises :class:`MalformedXml`."""
    parser = ET.XMLParser(target=_Builder())  # noqa: S314 - a document type is refused above
    try:
        parser.feed(source)
        root = parser.close()
    except (ET.ParseError, ValueError, LookupError) as error:
        raise MalformedXml(str(error)) from error
    if not isinstance(root, ET.Element):
        raise MalformedXml("no document element")
    return root


def local_name(tag: str) -> str:
    """The name of an element or attribute without its namespace."""
    return tag.rpartition("}")[2]


def namespace_of(tag: str) -> str:
    """The namespace of an element or attribute; empty when it has none."""
    return tag[1:].partition("}")[0] if tag.startswith("{") else ""
