"""Mutants that no test can see, or that none needs to: what they change, and why.

They stand in `explained.txt`, as `run.py` prints them, under the name of their file.
"""

from __future__ import annotations

import re
from pathlib import Path


def _explained() -> dict[tuple[str, str, str], str]:
    told, file, old, new = dict[tuple[str, str, str], str](), "", "", ""
    for line in Path(__file__).with_suffix(".txt").read_text("utf-8").splitlines():
        match line[:1], line[2:]:
            case "-", old:
                pass
            case "+", new:
                pass
            case " ", why:
                told[file, old, new] = why
            case _ if line:
                file = line
    return told


EXPLAINED = _explained()
"""File, line before, line now: the reason."""

_EQUALS = re.compile(
    r"(?P<type>type\(\w+\) )?(?P<equals>[!=]=)"
    r"(?P<single> (?:kind|ABSENT|None|_?[A-Z]\w+\.[A-Z]+)\b)?"
)
_IS = {"==": "is", "!=": "is not"}


def reason(file: str, old: str, new: str) -> str | None:
    """Why nobody can see the change, if somebody has thought of it."""
    for found in _EQUALS.finditer(new):
        start, end = found.span("equals")
        is_one_of_a_kind = found["type"] or found["single"]
        if is_one_of_a_kind and new[:start] + _IS[new[start:end]] + new[end:] == old:
            return "a type, None or an Enum's member equals itself alone"
    return EXPLAINED.get((file, old, new))
