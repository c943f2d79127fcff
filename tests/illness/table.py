"""What docs/reliability.md promises: of each illness, and each kind of request.

The table there is read, not repeated: the tests hold the product to what users read.
"""

from __future__ import annotations

from pathlib import Path

from .cells import Seen

DOCUMENT = Path(__file__).parents[2] / "docs" / "reliability.md"
HEAD, MASTERS_HEAD = "| illness |", "| masters |"


def promises(text: str, head: str = HEAD) -> dict[str, dict[str, str]]:
    """Illness -> request -> what it gets; of the one table that begins so."""
    lines = text.partition(head)[2].splitlines()
    requests = _cells(lines[0])
    rows: dict[str, dict[str, str]] = {}
    for line in lines[2:]:
        if not line.startswith("|"):
            break
        name, *words = _cells(line[1:])
        rows[name] = dict(zip(requests, words, strict=True))
    return rows


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.rstrip().removesuffix("|").split("|")]


def allows(promise: str, seen: Seen) -> bool:
    """Whether what was seen is what was promised.

    *open* is done or kept, and *lock* that a lock may be left.
    """
    is_locked = seen.is_locked and "lock" in promise.split()
    wanted = promise.removesuffix(" lock")
    plain = str(seen._replace(is_locked=seen.is_locked and not is_locked))
    return plain in {wanted.replace("open", word) for word in ("done", "kept")}
