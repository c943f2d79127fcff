"""A fork shares no connection and no thread with its parent: it begins with its own."""

import os
import weakref
from typing import Protocol


class Owner(Protocol):
    """Who has something that is not for a fork."""

    def begin_anew(self) -> None:
        """Forget what the parent has; nothing of it is closed."""


_owners: "weakref.WeakSet[Owner]" = weakref.WeakSet()


def begins_anew_in_forks(owner: Owner) -> None:
    """Have an owner told in each child process, for as long as there is the owner."""
    _owners.add(owner)


def _tell_owners() -> None:
    for owner in list(_owners):
        owner.begin_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_tell_owners)
