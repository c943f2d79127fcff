"""Mutants that no test can see, or that none needs to: what they change, and why."""

from __future__ import annotations

_HANDLE = "return self.record[len(self.lock) :][:8]"
_ANY_LENGTH = "a handle of any length from 6 to 12 serves"

EXPLAINED: dict[tuple[str, str, str], str] = {
    ("ids.py", _HANDLE, _HANDLE.replace("[:8]", "[: 7]")): _ANY_LENGTH,
    ("ids.py", _HANDLE, _HANDLE.replace("[:8]", "[: 9]")): _ANY_LENGTH,
}
"""File, line before, line now: the reason."""
