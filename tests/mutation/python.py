"""Python with one thing changed, as cosmic-ray does it."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator
from functools import cache

from cosmic_ray import plugins
from cosmic_ray.mutating import mutate_code

_CHOSEN = (
    "ReplaceComparisonOperator_",
    "ReplaceBinaryOperator_Add_Sub",
    "ReplaceBinaryOperator_Sub_Add",
    "ReplaceBinaryOperator_Mul_Div",
    "ReplaceAndWithOr",
    "ReplaceOrWithAnd",
    "ReplaceTrueWithFalse",
    "ReplaceFalseWithTrue",
    "ReplaceBreakWithContinue",
    "ReplaceContinueWithBreak",
    "ReplaceUnaryOperator_Delete_Not",
    "AddNot",
    "NumberReplacer",
    "ExceptionReplacer",
    "ZeroIterationForLoop",
    "RemoveDecorator",
)
"""Not those that break annotations only, such as ``int | None``."""


@cache
def _operators() -> list[str]:
    names = sorted(plugins.operator_names())
    return [name for name in names if name.partition("/")[2].startswith(_CHOSEN)]


def mutants(text: str) -> Iterator[str]:
    """The text with one change each, by kind of change."""
    seen = {text}
    for name in _operators():
        operator = plugins.get_operator(name)()
        for occurrence in itertools.count():
            try:
                made = mutate_code(text, operator, occurrence)
            except AttributeError:  # except module.Error: is beyond ExceptionReplacer
                continue
            if made is None:
                break
            if made not in seen and _is_python(made):
                seen.add(made)
                yield made


def _is_python(text: str) -> bool:
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return True
