"""Mutants that no test can see, or that none needs to: what they change, and why."""

from __future__ import annotations

EXPLAINED: dict[tuple[str, str, str], str] = {}
"""File, line before, line now: the reason."""
