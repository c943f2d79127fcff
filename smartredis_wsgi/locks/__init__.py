"""Locks: one interface, three strategies. None of them knows what a session is."""

from .none import NoLock
from .redlock import Redlock
from .single import SingleNodeLock
from .strategy import Lease, LockStrategy

__all__ = ["Lease", "LockStrategy", "NoLock", "Redlock", "SingleNodeLock"]
