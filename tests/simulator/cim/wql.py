# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The WQL that providers of Windows understand, as far as it is data queries: text in, a tree out (wire 2.4).

``SELECT * | columns FROM class [WHERE condition]``, ``ASSOCIATORS OF {path} [WHERE …]``, ``REFERENCES OF {path} [WHERE …]``.
Meaning (types, comparison) is in :mod:`simulator.cim.wql_match`.
"""
from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, TypeAlias

from .errors import ProviderRefusal
from .model import CimError, Ref
from .paths import parse_object_path

Literal: TypeAlias = str | int | float | bool | None

MAX_DEPTH: Final = 100
"""Nesting of parentheses and NOT; WMI refuses deep queries with a quota error, which nobody meets."""


@dataclass(frozen=True)
class Compare:
    """``name operator literal``; operator is one of ``= <> < > <= >= LIKE ISA``."""

    name: str
    operator: str
    literal: Literal


@dataclass(frozen=True)
class IsNull:
    """``name IS NULL``."""

    name: str


@dataclass(frozen=True)
class Not:
    """``NOT term``."""

    term: Condition


@dataclass(frozen=True)
class All:
    """``a AND b AND c``; flat, so that a long query is not a deep tree."""

    terms: tuple[Condition, ...]


@dataclass(frozen=True)
class Any:
    """``a OR b OR c``."""

    terms: tuple[Condition, ...]


Condition: TypeAlias = Compare | IsNull | Not | All | Any


@dataclass(frozen=True)
class Select:
    """``columns`` None means ``*``."""

    columns: tuple[str, ...] | None
    class_name: str
    where: Condition | None


@dataclass(frozen=True)
class Associators:
    """``ASSOCIATORS OF``; names as written, None when not given."""

    source: Ref
    association: str | None = None
    result: str | None = None
    role: str | None = None
    result_role: str | None = None
    unusual: tuple[str, ...] = ()
    """Clauses that were given and do not say which instances: ClassDefsOnly, KeysOnly, RequiredQualifier, RequiredAssocQualifier."""


@dataclass(frozen=True)
class References:
    """``REFERENCES OF``."""

    source: Ref
    result: str | None = None
    role: str | None = None
    unusual: tuple[str, ...] = ()
    """Clauses that were given and do not say which instances: ClassDefsOnly, KeysOnly, RequiredQualifier, RequiredAssocQualifier."""


Query: TypeAlias = Select | Associators | References

_TOKEN = re.compile(r"""
    \s*(?:
      (?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    | (?P<number>[+-]?(?:0[xX][0-9A-Fa-f]+|[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)(?![A-Za-z0-9_]))
    | (?P<name>[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*)
    | (?P<symbol><=|>=|<>|!=|[=<>(),*])
    )""", re.VERBOSE | re.DOTALL)
_OF = re.compile(r"\s*(ASSOCIATORS|REFERENCES)\s+OF\s*\{", re.IGNORECASE)
_PATH_END = re.compile(r"""(?:[^"'}]|"(?:[^"\\]|\\.)*"|'[^']*')*\}""", re.DOTALL)
_STRING_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_OPERATORS: Final = {"=": "=", "<>": "<>", "!=": "<>", "<": "<", ">": ">", "<=": "<=", ">=": ">="}
_FLIPPED: Final = {"=": "=", "<>": "<>", "<": ">", ">": "<", "<=": ">=", ">=": "<="}
_UNUSUAL: Final = frozenset({"classdefsonly", "keysonly", "requiredqualifier", "requiredassocqualifier"})
_RESERVED: Final = frozenset({"select", "from", "where", "and", "or", "not", "like", "is", "isa", "null", "true", "false"})


class InvalidQuery(CimError):
    """WMI's WBEM_E_INVALID_QUERY; the service answers CannotProcessFilter (wire 5.2)."""

    def __init__(self, message: str) -> None:
        super().__init__("invalid_query", message)


def parse(source: str, namespace: str) -> Query:
    """The tree of a query; ``namespace`` is that of object paths without one. Raises :class:`InvalidQuery`."""
    match = _OF.match(source)
    if match is None:
        return _Parser(source).select()
    end = _PATH_END.match(source, match.end())
    if end is None:
        raise InvalidQuery("the object path in braces does not end")
    try:
        ref = parse_object_path(source[match.end():end.end() - 1].strip(), namespace=namespace)
    except ProviderRefusal as error:
        raise InvalidQuery(error.message) from error
    return _Parser(source, end.end()).clauses(ref, match[1].upper())


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    value: Literal = None

    def keyword(self, *words: str) -> bool:
        return self.kind == "name" and self.text.lower() in words


_END: Final = _Token("end", "the end of the query")


def _tokens(source: str, position: int) -> list[_Token]:
    tokens = []
    end = len(source.rstrip())
    while position < end:
        match = _TOKEN.match(source, position)
        if match is None:
            raise InvalidQuery(f"the query cannot be read from {source[position:position + 40]!r} on")
        kind = str(match.lastgroup)
        text = match[kind]
        tokens.append(_Token(kind, text, _literal(kind, text)))
        position = match.end()
    return tokens


def _literal(kind: str, text: str) -> Literal:
    if kind == "string":
        return _unquote(text)
    if kind != "number":
        return None
    if text.lower().lstrip("+-").startswith("0x"):
        return int(text, 16)
    try:
        return int(text)
    except ValueError:
        return float(text)


def _unquote(quoted: str) -> str:
    """The text of a literal: ``\\\\``, ``\\'`` and ``\\"`` are its only escapes; another backslash makes the query invalid."""
    body = quoted[1:-1]
    for escape in _STRING_ESCAPE.finditer(body):
        if escape[1] not in "\\'\"":
            raise InvalidQuery(f"a backslash must be doubled in {quoted[:100]}")
    return _STRING_ESCAPE.sub(r"\1", body)


class _Parser:
    """Recursive descent over the tokens."""

    def __init__(self, source: str, position: int = 0) -> None:
        self._tokens = _tokens(source, position)
        self._at = 0
        self._depth = 0

    def select(self) -> Select:
        """SELECT …"""
        self._expect("select")
        columns = self._columns()
        self._expect("from")
        class_name = self._name()
        where = None
        if self._peek().keyword("where"):
            self._next()
            where = self._any()
        self._finish()
        if "." in class_name:
            raise InvalidQuery(f"{class_name} is no class name")
        return Select(columns, class_name, where)

    def clauses(self, source: Ref, kind: str) -> Associators | References:
        """What follows ``ASSOCIATORS OF {…}`` or ``REFERENCES OF {…}``: ``WHERE`` and clauses with nothing between them."""
        given: dict[str, str] = {}
        flags: set[str] = set()
        if self._peek().keyword("where"):
            self._next()
            self._clause(kind, given, flags)
        while self._peek() is not _END:
            self._clause(kind, given, flags)
        unusual = tuple(sorted((flags | given.keys()) & _UNUSUAL))
        if kind == "REFERENCES":
            return References(source, given.get("resultclass"), given.get("role"), unusual)
        return Associators(source, given.get("assocclass"), given.get("resultclass"), given.get("role"), given.get("resultrole"), unusual)

    def _clause(self, kind: str, given: dict[str, str], flags: set[str]) -> None:
        token = self._next()
        word = token.text.lower()
        known = {"resultclass", "role", "requiredqualifier"}
        if kind == "ASSOCIATORS":
            known |= {"assocclass", "resultrole", "requiredassocqualifier"}
        if token.kind != "name" or word in given or word in flags or word not in known | {"classdefsonly", "keysonly"}:
            raise InvalidQuery(f"{token.text[:100]!r} is no clause of {kind} OF, or is given twice")
        if word not in known:
            flags.add(word)
            return
        if self._next().text != "=":
            raise InvalidQuery(f"{token.text} needs = and a name")
        given[word] = self._name()

    def _columns(self) -> tuple[str, ...] | None:
        if self._peek().text == "*":
            self._next()
            return None
        columns = [self._name()]
        while self._peek().text == ",":
            self._next()
            columns.append(self._name())
        return tuple(columns)

    def _any(self) -> Condition:
        terms = [self._all()]
        while self._peek().keyword("or"):
            self._next()
            terms.append(self._all())
        return terms[0] if len(terms) == 1 else Any(tuple(terms))

    def _all(self) -> Condition:
        terms = [self._term()]
        while self._peek().keyword("and"):
            self._next()
            terms.append(self._term())
        return terms[0] if len(terms) == 1 else All(tuple(terms))

    def _term(self) -> Condition:
        token = self._peek()
        if not (token.keyword("not") or token.text == "("):
            return self._comparison()
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise InvalidQuery("the query is nested too deeply")
        self._next()
        if token.keyword("not"):
            term: Condition = Not(self._term())
        else:
            term = self._any()
            if self._next().text != ")":
                raise InvalidQuery("a parenthesis is not closed")
        self._depth -= 1
        return term

    def _comparison(self) -> Condition:
        token = self._next()
        if token.kind != "name" or token.keyword(*_RESERVED):
            return self._flipped(token)
        operator = self._next()
        if operator.keyword("is"):
            negated = self._peek().keyword("not")
            if negated:
                self._next()
            self._expect("null")
            return Not(IsNull(token.text)) if negated else IsNull(token.text)
        if operator.keyword("like", "isa"):
            pattern = self._next()
            if pattern.kind != "string":
                raise InvalidQuery(f"{operator.text} needs a string")
            return Compare(token.text, operator.text.upper(), pattern.value)
        literal = self._constant(self._next())
        return _compare(token.text, self._operator(operator), literal)

    def _flipped(self, token: _Token) -> Condition:
        """``literal operator name``."""
        literal = self._constant(token)
        operator = self._operator(self._next())
        return _compare(self._name(), _FLIPPED[operator], literal)

    @staticmethod
    def _operator(token: _Token) -> str:
        if token.kind != "symbol" or token.text not in _OPERATORS:
            raise InvalidQuery(f"{token.text[:100]!r} is no comparison")
        return _OPERATORS[token.text]

    @staticmethod
    def _constant(token: _Token) -> Literal:
        if token.kind in ("string", "number"):
            return token.value
        if token.keyword("true", "false"):
            return token.keyword("true")
        if token.keyword("null"):
            return None
        raise InvalidQuery(f"{token.text[:100]!r} is no constant")

    def _name(self) -> str:
        token = self._next()
        if token.kind != "name" or token.keyword(*_RESERVED):
            raise InvalidQuery(f"a name is expected, not {token.text[:100]!r}")
        return token.text

    def _expect(self, word: str) -> None:
        token = self._next()
        if not token.keyword(word):
            raise InvalidQuery(f"{word.upper()} is expected, not {token.text[:100]!r}")

    def _finish(self) -> None:
        if self._peek() is not _END:
            raise InvalidQuery(f"the query goes on with {self._peek().text[:100]!r}")

    def _peek(self) -> _Token:
        return self._tokens[self._at] if self._at < len(self._tokens) else _END

    def _next(self) -> _Token:
        token = self._peek()
        self._at += 1
        return token


def _compare(name: str, operator: str, literal: Literal) -> Condition:
    if literal is None:
        if operator == "=":
            return IsNull(name)
        if operator == "<>":
            return Not(IsNull(name))
        raise InvalidQuery(f"{name} cannot be ordered against NULL")
    return Compare(name, operator, literal)
