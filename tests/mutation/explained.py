"""Mutants that no test can see, or that none needs to: what they change, and why."""

from __future__ import annotations

_HANDLE = "return self.record[len(self.lock) :][:8]"
_MANY = "if whole and (meta.size <= whole or redis.call('HLEN', record) > 1000) then"
_ONE_ID = "if len(values) < 2 and not self._config.secret:"
_IT = "return values[0] if values else None"
_PROLONG = "if now > left or now < known then redis.pcall('PEXPIRE', record, known) end"
_SAME_EXPIRY = "it is given the expiry that it has"
_ANY_LENGTH = "a handle of any length from 6 to 12 serves"

EXPLAINED: dict[tuple[str, str, str], str] = {
    ("scripts/prolong.lua", _PROLONG, _PROLONG.replace(">", ">=")): _SAME_EXPIRY,
    ("scripts/prolong.lua", _PROLONG, _PROLONG.replace("<", "<=")): _SAME_EXPIRY,
    ("scripts/load.lua", _MANY, _MANY.replace("1000", "1001")): "a limit of cost alone",
    ("cookie.py", _ONE_ID, _ONE_ID.replace("2", "1")): "a short cut",
    ("cookie.py", _IT, _IT.replace("[0]", "[ -1]")): "there is one at most",
    ("ids.py", _HANDLE, _HANDLE.replace("[:8]", "[: 7]")): _ANY_LENGTH,
    ("ids.py", _HANDLE, _HANDLE.replace("[:8]", "[: 9]")): _ANY_LENGTH,
}
"""File, line before, line now: the reason."""
