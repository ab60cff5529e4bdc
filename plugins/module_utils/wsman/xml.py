# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""XML both ways: the one quoting function for requests, and a parser for answers that nobody vouches for."""
from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NewType
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError

S = "http://www.w3.org/2003/05/soap-envelope"
A = "http://schemas.xmlsoap.org/ws/2004/08/addressing"
W = "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd"
N = "http://schemas.xmlsoap.org/ws/2004/09/enumeration"
X = "http://schemas.xmlsoap.org/ws/2004/09/transfer"
B = "http://schemas.dmtf.org/wbem/wsman/1/cimbinding.xsd"
M = "http://schemas.microsoft.com/wbem/wsman/1/wsman.xsd"
CIM = "http://schemas.dmtf.org/wbem/wscim/1/common"
XSI = "http://www.w3.org/2001/XMLSchema-instance"
FAULT = "http://schemas.microsoft.com/wbem/wsman/1/wsmanfault"
SHELL = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell"
ANONYMOUS = "http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous"

MAX_DEPTH = 64
_ILLEGAL = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ENCODING = re.compile(r"""<\?xml[^>]{0,200}?encoding\s*=\s*["']([A-Za-z0-9._-]{1,40})["']""")

Markup = NewType("Markup", str)
"""XML that was built here, and so needs no quoting."""


class ProtocolError(HypervError):
    """An answer is not what WS-Management or CIM would send."""

    error_code = "bad_answer"


def text(value: str) -> Markup:
    """Character data or an attribute's value, quoted. Raises HypervError for characters that XML cannot carry."""
    illegal = _ILLEGAL.search(value)
    if illegal is not None:
        raise HypervError(f"A value holds a character that cannot be sent (U+{ord(illegal.group()):04X}).", error_code="invalid_text")
    quoted = value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;").replace("\r", "&#13;")
    return Markup(quoted)


def element(name: str, *content: Markup, **attributes: str) -> Markup:
    """An element by its prefixed name; ``xmlns__p`` stands for ``xmlns:p`` in attribute names."""
    written = "".join(f' {key.replace("__", ":")}="{_attribute(value)}"' for key, value in attributes.items())
    inner = "".join(content)
    return Markup(f"<{name}{written}>{inner}</{name}>" if inner else f"<{name}{written}/>")


def _attribute(value: str) -> str:
    return text(value).replace("\n", "&#10;").replace("\t", "&#9;")


def join(parts: Iterator[Markup] | list[Markup]) -> Markup:
    """Several pieces one after the other."""
    return Markup("".join(parts))


def parse(answer: bytes) -> Element:
    """The root of an answer. Raises ProtocolError for anything but well-formed XML without a document type."""
    decoded = _decode(answer)
    _refuse_document_type(decoded)
    try:
        parser = ElementTree.XMLParser(encoding="utf-8")  # noqa: S314  # no document type can reach it
        parser.feed(decoded.encode("utf-8"))
        root: Element = parser.close()
    except (ElementTree.ParseError, ValueError) as error:
        raise ProtocolError(f"An answer is not well-formed XML: {str(error)[:120]}.", details={"excerpt": excerpt(answer)}) from error
    _refuse_depth(root)
    return root


def _decode(answer: bytes) -> str:
    encoding = "utf-16" if answer[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        decoded = answer.decode(encoding)
    except UnicodeDecodeError as error:
        raise ProtocolError(f"An answer is not valid {encoding} text (byte {error.start}).",
                            details={"excerpt": excerpt(answer)}) from error
    declared = _ENCODING.match(decoded[:300])
    if declared is not None and declared.group(1).lower() not in ("utf-8", "utf-16", "us-ascii"):
        raise ProtocolError(f"An answer is written in {declared.group(1)}, which WinRM does not use.")
    return decoded


def _refuse_document_type(decoded: str) -> None:
    """A document type is legal only before the root: look there, since the same letters may be data further on."""
    at = 0
    while True:
        while decoded[at:at + 1].isspace():
            at += 1
        if decoded.startswith("<?", at):
            end, length = decoded.find("?>", at), 2
        elif decoded.startswith("<!--", at):
            end, length = decoded.find("-->", at), 3
        elif decoded.startswith("<!", at):
            raise ProtocolError("An answer has a document type, which WinRM never sends.")
        else:
            return
        if end < 0:
            return  # not well-formed, as the parser will say
        at = end + length


def _refuse_depth(root: Element) -> None:
    level = [root]
    for _unused in range(MAX_DEPTH - 1):
        level = [child for node in level for child in node if len(child)]  # most have no children, and need not be looked into
        if not level:
            return
    raise ProtocolError("An answer is nested too deeply.")


def local_name(tag: object) -> str:
    """The name without its namespace; empty for comments and processing instructions."""
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""


def namespace_of(tag: object) -> str:
    """The namespace of a name, empty without one."""
    return tag[1:].partition("}")[0] if isinstance(tag, str) and tag.startswith("{") else ""


def child(node: Element, name: str, *namespaces: str) -> Element | None:
    """The first child of that local name, in one of the namespaces (any, when none is given); namespaces compare without case."""
    wanted = {namespace.lower() for namespace in namespaces}
    for one in node:
        if local_name(one.tag) == name and (not wanted or namespace_of(one.tag).lower() in wanted):
            return one
    return None


def child_text(node: Element, name: str, *namespaces: str) -> str | None:
    """The stripped text of that child; None when there is no such child."""
    found = child(node, name, *namespaces)
    return None if found is None else (found.text or "").strip()


def excerpt(answer: bytes, length: int = 2000) -> str:
    """The beginning of an answer for a report, with everything unprintable made visible."""
    shown = answer[:length].decode("utf-8", "backslashreplace")
    return "".join(one if one.isprintable() or one == "\n" else f"\\u{ord(one):04x}" for one in shown)


def attributes_of(node: Element) -> Mapping[str, str]:
    """Attributes by their local names."""
    return {local_name(name): value for name, value in node.attrib.items()}
