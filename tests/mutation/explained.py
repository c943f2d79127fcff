"""Mutants that no test can see, or that none needs to: what they change, and why."""

from __future__ import annotations

_HANDLE = "return self.record[len(self.lock) :][:8]"
_MANY = "if whole and (meta.size <= whole or redis.call('HLEN', record) > 1000) then"
_ANY_LENGTH = "a handle of any length from 6 to 12 serves"

EXPLAINED: dict[tuple[str, str, str], str] = {
    ("scripts/load.lua", _MANY, _MANY.replace("1000", "1001")): "a limit of cost alone",
    ("ids.py", _HANDLE, _HANDLE.replace("[:8]", "[: 7]")): _ANY_LENGTH,
    ("ids.py", _HANDLE, _HANDLE.replace("[:8]", "[: 9]")): _ANY_LENGTH,
}
"""File, line before, line now: the reason."""
