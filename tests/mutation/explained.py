"""Mutants that no test can see, or that none needs to: what they change, and why."""

from __future__ import annotations

import re

_HANDLE = "return self.record[len(self.lock) :][:8]"
_MANY = "if whole and (meta.size <= whole or redis.call('HLEN', record) > 1000) then"
_ONE_ID = "if len(values) < 2 and not self._config.secret:"
_IT = "return values[0] if values else None"
_PROLONG = "if now > left or now < known then redis.pcall('PEXPIRE', record, known) end"
_SAME_EXPIRY = "it is given the expiry that it has"
_SINCE = "since = math.floor(created / 1000), fresh = 0, nonces = ''}, nonce))"
_EACH = "for i = 2, #ARGV - 1, 2 do"
_NAMED = "if entry and ARGV[i + 1] ~= '' then"
_USED = "if is_over and not (entry and entry.used > since and not entry.doomed) then"
_DEAD_NAME = "if ARGV[2] ~= '' or entry.joins then"
_LAST = "if last > 0 then till = math.min(till, last) end"
_TILL = "if entry and entry.till <= now then entry = nil end"
_MADE = (
    "entry = entry or {bound = now, created = tonumber(ARGV[6]) or now, "
    "names = '', till = 0}"
)
_INDEX_LEFT = "if redis.call('PTTL', index) < till - now then"
_NO_SLOT = "behind the last slot there is the nonce, which is none"
_NO_NAME = "no name is '': it is written as it was"
_MOMENT = "a millisecond"
_WITH = (
    "if string.find(',' .. names .. ',', ',' .. name .. ',', 1, true) then "
    "return names end"
)
_TEXTS = "for i = first, #words - 1, 2 do texts[words[i]] = words[i + 1] end"
_ALIVE = "if entry and entry.till > now then"
_ENDS = (
    "if last > 0 then redis.pcall('PEXPIREAT', index, string.format('%.0f', last)) end"
)
_BACK = "the last slot is the third word from the end"
_SLOTS = "@dataclass(slots=True)  # frozen, it would take three times as long to make"
_BEFORE = "if self._stored.get(name) != before.get(name):"
_HELD = "if self._read.get(name) is value and self._is_as_planted(stored, value):"
_READ_AGAIN = "except (ValueError, RecursionError):"
_RAISED = "CosmicRayTestingException"
_SIGNAL_ENDS = "redis.call('PEXPIRE', KEYS[4], 1000)"
_WAITS = "local waits = others > 0 and redis.call('ZSCORE', waiters, token)"
_OTHERS = "if others > 0 then"
_NOW = "now = time[1] * 1000 + math.floor(time[2] / 1000)"
_WAITERS_END = "redis.call('PEXPIRE', waiters, ARGV[4] + 1000)"
_SAVING = "a command that is saved where nobody waits"
_ANY_LENGTH = "a handle of any length from 6 to 12 serves"

EXPLAINED: dict[tuple[str, str, str], str] = {
    ("scripts/acquire.lua", _SIGNAL_ENDS, _SIGNAL_ENDS.replace("1000", "1001")): (
        _MOMENT
    ),
    ("scripts/acquire.lua", _WAITS, _WAITS.replace(">", ">=")): _SAVING,
    ("scripts/acquire.lua", _OTHERS, _OTHERS.replace(">", ">=")): _SAVING,
    ("scripts/acquire.lua", _NOW, _NOW.replace("/ 1000", "/ 1001")): _MOMENT,
    ("scripts/acquire.lua", _WAITERS_END, _WAITERS_END.replace("1000", "1001")): (
        _MOMENT
    ),
    ("scripts/create.lua", _SINCE, _SINCE.replace("1000", "1001")): (
        "packed sets it to now, where it is long ago"
    ),
    ("scripts/owner_confirm.lua", _DEAD_NAME, _DEAD_NAME.replace("2", "3")): _NO_NAME,
    (
        "scripts/owner_enter.lua",
        _LAST,
        _LAST.replace("0", "1"),
    ): "nothing ended in 1970",
    ("scripts/owner_enter.lua", _TILL, _TILL.replace("<=", "<")): _MOMENT,
    ("scripts/owner_enter.lua", _MADE, _MADE.replace("= 0", "= 1")): "1970 is over",
    ("scripts/owner_enter.lua", _INDEX_LEFT, _INDEX_LEFT.replace("<", "<=")): (
        _SAME_EXPIRY
    ),
    ("scripts/owner_forget.lua", _EACH, _EACH.replace("- 1", "+ 1")): _NO_SLOT,
    ("scripts/owner_forget.lua", _EACH, _EACH.replace("- 1", "- 2")): _BACK,
    ("scripts/owner_forget.lua", _NAMED, _NAMED.replace("i + 1", "i - 1")): _NO_NAME,
    ("scripts/owner_forget.lua", _NAMED, _NAMED.replace("i + 1", "i + 2")): _NO_NAME,
    ("scripts/owner_forget.lua", _USED, _USED.replace(">", ">=")): _MOMENT,
    ("scripts/owner.lua", _WITH, _WITH.replace("true", "false")): (
        "no digest has a character that is magic in a pattern"
    ),
    ("scripts/owner.lua", _TEXTS, _TEXTS.replace("- 1", "+ 1")): _NO_SLOT,
    ("scripts/owner.lua", _TEXTS, _TEXTS.replace("- 1", "- 2")): _BACK,
    ("scripts/owner.lua", _ALIVE, _ALIVE.replace(">", ">=")): _MOMENT,
    ("scripts/owner.lua", _ENDS, _ENDS.replace("> 0", "> 1")): "1970 is over",
    ("scripts/prolong.lua", _PROLONG, _PROLONG.replace(">", ">=")): _SAME_EXPIRY,
    ("scripts/prolong.lua", _PROLONG, _PROLONG.replace("<", "<=")): _SAME_EXPIRY,
    ("scripts/load.lua", _MANY, _MANY.replace("1000", "1001")): "a limit of cost alone",
    ("cookie.py", _ONE_ID, _ONE_ID.replace("2", "1")): "a short cut",
    ("cookie.py", _IT, _IT.replace("[0]", "[ -1]")): "there is one at most",
    ("fields.py", _SLOTS, _SLOTS.replace("True", "False")): "a saving alone",
    ("fields.py", _BEFORE, _BEFORE.replace("!=", "is not")): (
        "what is equal is poured into what holds it already"
    ),
    ("fields.py", _HELD, _HELD.replace(" is ", " == ")): (
        "what is assigned is never read as well"
    ),
    ("fields.py", _READ_AGAIN, _READ_AGAIN.replace("ValueError", _RAISED)): (
        "what was read can be read again"
    ),
    ("fields.py", _READ_AGAIN, _READ_AGAIN.replace("RecursionError", _RAISED)): (
        "only where the stack is fuller than when it was read"
    ),
    ("fields.py", "return one is other", "return one == other"): (
        "ABSENT equals itself alone"
    ),
    ("ids.py", _HANDLE, _HANDLE.replace("[:8]", "[: 7]")): _ANY_LENGTH,
    ("ids.py", _HANDLE, _HANDLE.replace("[:8]", "[: 9]")): _ANY_LENGTH,
}
"""File, line before, line now: the reason."""

_EQUALS = re.compile(r"(?<=\) )[!=]=|[!=]=(?= (?:kind|ABSENT|None|[A-Z]\w+\.[A-Z]+)\b)")
_IS = {"==": "is", "!=": "is not"}


def reason(file: str, old: str, new: str) -> str | None:
    """Why nobody can see the change, if somebody has thought of it."""
    for equals in _EQUALS.finditer(new):
        if new[: equals.start()] + _IS[equals[0]] + new[equals.end() :] == old:
            return "a type, None or an Enum's member equals itself alone"
    return EXPLAINED.get((file, old, new))
