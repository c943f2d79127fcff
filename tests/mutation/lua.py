"""Lua with one thing changed: a comparison, a constant, a connective; a line gone."""

from __future__ import annotations

import re
from collections.abc import Iterator

_STRING_OR_COMMENT = re.compile(r"('(?:\\.|[^'\\])*'|--.*)")
_SWAPS = {
    "==": "~=",
    "~=": "==",
    "<=": "<",
    ">=": ">",
    "<": "<=",
    ">": ">=",
    "and": "or",
    "or": "and",
    "not": "",
    "true": "false",
    "false": "true",
    "+": "-",
    "-": "+",
    "redis.pcall": "redis.call",
    "math.min": "math.max",
    "math.max": "math.min",
}
_TOKEN = re.compile(
    r"redis\.pcall|math\.min|math\.max|[=~<>]=|[<>]|\b(?:and|or|not|true|false)\b"
    r"|(?<= )[+-](?= )|(?<![\w.])\d+\b"
)
_STATEMENT = re.compile(
    r"\s*(?:redis\.p?call\(.*\)|table\.insert\(.*\)|return .*|break"
    r"|if .* then (?:return|break).* end|[\w., \[\]]+ = .*[^,({]|\w+\(.*\))\s*(?:--.*)?"
)


def mutants(text: str) -> Iterator[str]:
    """The text with one change each, in the order of the text."""
    lines = text.split("\n")
    for place, line in enumerate(lines):
        for changed in [*_changed(line), *_dropped(line)]:
            yield "\n".join([*lines[:place], changed, *lines[place + 1 :]])


def _changed(line: str) -> Iterator[str]:
    parts = _STRING_OR_COMMENT.split(line)
    for place in range(0, len(parts), 2):
        for token in _TOKEN.finditer(parts[place]):
            new = _SWAPS.get(token[0]) if token[0] in _SWAPS else str(int(token[0]) + 1)
            part = (
                parts[place][: token.start()] + str(new) + parts[place][token.end() :]
            )
            yield "".join([*parts[:place], part, *parts[place + 1 :]])


def _dropped(line: str) -> Iterator[str]:
    is_whole = all(line.count(a) == line.count(b) for a, b in ("()", "{}"))
    is_other = line.split()[:1] in (["local"], ["for"])
    if is_whole and not is_other and _STATEMENT.fullmatch(line):
        yield ""
