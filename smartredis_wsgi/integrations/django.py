"""Django: ``request.session``, kept field by field in Redis.

::

    SESSION_ENGINE = "smartredis_wsgi.integrations.django"
    SMARTREDIS = {"url": "redis://localhost:6379/0"}
    MIDDLEWARE = [
        "smartredis_wsgi.integrations.django.SessionMiddleware",  # in Django's place
        ...
    ]

The cookie, its age and its name are Django's, as ``SESSION_COOKIE_*`` say. Django's own
`SessionMiddleware` will do; this module's answers 503 where Redis can't be had, and
saves what changed inside a value too. A lock is held for the save, or for a block of
``session.lock()``, as a request that only reads is never told its end.
"""

import functools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.sessions.backends.base import SessionBase, UpdateError
from django.contrib.sessions.middleware import SessionMiddleware as DjangoMiddleware
from django.core.signals import setting_changed
from django.http import HttpRequest, HttpResponse

from smartredis_wsgi import (
    ConfigError,
    LockTimeout,
    OwnedSession,
    Session,
    SessionGone,
    StoreUnavailable,
)
from smartredis_wsgi import SessionStore as Store

from ..config import Config
from ..ids import ID

_EXPIRY = "_session_expiry"  # Django's field for `set_expiry`
_OTHERS = ("secret", "environ_key", "lock_methods", "on_gone")


class SessionStore(SessionBase):
    """Django's session backend. Only what changed is written, and it is merged.

    A session that was destroyed, or expired, between load and save is an `UpdateError`:
    Django's `SessionInterrupted`.
    """

    _session_key: Any

    def load(self) -> Session | dict[str, Any]:
        """What is stored; empty, and without a key, if nothing is. One round trip.

        Where another request has cycled the key, it is empty too but keeps its key, so
        that no response takes the new cookie away; a save is an `UpdateError`.
        """
        session = _open(self.session_key)
        if not session.is_new and self._age_of(session) > 0:
            return session
        self._session_key = None
        return {}

    def exists(self, session_key: str) -> bool:
        """Whether there is such a session. One round trip."""
        session = _open(session_key)
        is_there = not session.is_new and session._life.stored_id is not None
        return is_there and self._age_of(session) > 0

    def create(self) -> None:
        """Store a new session, with what is here. One round trip."""
        fields = getattr(self, "_session_cache", {})
        session = _open(None)
        session.update(fields)
        self._session_cache = session
        self._commit(session)
        self.modified = True

    def save(self, must_create: bool = False) -> None:
        """Write what changed, and prolong it. One round trip.

        Raises:
            UpdateError: It is gone.
        """
        session = None if must_create else self._stored()
        if session is None:
            self.create()
        else:
            self._commit(session)

    def cycle_key(self) -> None:
        """Keep the session under a new key; the old one is dead in the same step."""
        session = self._stored()
        if session is None:
            self.create()
        else:
            session.regenerate_id()
            self._commit(session)
            self.modified = True

    async def acycle_key(self) -> None:
        await sync_to_async(self.cycle_key)()

    def delete(self, session_key: str | None = None) -> None:
        """Log out: no request that is under way brings it back. One round trip."""
        key = session_key or self.session_key
        if key:
            _store().destroy(key)

    def bind(self, owner: str, note: str | None = None) -> None:
        """Say whose session it is, as after a login, and save it: `Session.bind`.

        Raises:
            UpdateError: It is gone.
            TooManySessions: `max_per_owner` refuses one more.
        """
        session = self._stored()
        if session is None:
            self.create()
            session = self._session
        session.bind(owner, note)
        self._commit(session)

    @contextmanager
    def lock(self) -> Iterator["SessionStore"]:
        """Have the session alone: exclusive, fresh, and saved at the block's end."""
        session = self._stored()
        if session is None:
            self.create()
            session = self._session
        with _gone_is_update_error(), session.lock():
            yield self

    @classmethod
    def clear_expired(cls) -> None:
        """Nothing: Redis does that."""

    @classmethod
    def log_out(cls, owner: str, keep: "SessionStore | None" = None) -> int:
        """Log an owner out everywhere, but for the session that is kept; how many."""
        kept = keep._stored() if keep else None
        return _store().destroy_owner(owner, keep=kept)

    @classmethod
    def sessions_of(cls, owner: str) -> list[OwnedSession]:
        """An owner's sessions, see `smartredis_wsgi.SessionStore.sessions_of`."""
        return _store().sessions_of(owner)

    def _stored(self) -> Session | None:
        """The session that was loaded, with what is here; None if nothing is stored."""
        fields = self._session
        if self.session_key is None or isinstance(fields, Session):
            return fields if self.session_key else None
        # It was cleared, and perhaps filled again.
        session = self._session_cache = _open(self.session_key)
        session.clear()
        session.update(fields)
        return session

    def _commit(self, session: Session) -> None:
        session.set_ttl(max(self._age_of(session), 0.001))
        session.changed()
        with _gone_is_update_error():
            session.save()
        self._session_key = session.id

    def _age_of(self, session: Session) -> float:
        """Seconds until it expires, as Django counts."""
        return float(self.get_expiry_age(expiry=session.get(_EXPIRY)))


class SessionMiddleware(DjangoMiddleware):
    """Django's, and a 503 where Redis can't be had or a session stays locked."""

    def process_exception(
        self,
        request: HttpRequest,  # noqa: ARG002
        exception: Exception,
    ) -> HttpResponse | None:
        """A view that could not have the session."""
        if isinstance(exception, (StoreUnavailable, LockTimeout)):
            return _try_again(exception)
        return None

    def process_response(
        self, request: HttpRequest, response: HttpResponse
    ) -> HttpResponse:
        """Save what changed, also inside a value."""
        try:
            fields = getattr(request.session, "_session_cache", None)
            if isinstance(fields, Session) and fields.modified:
                request.session.modified = True
            response = super().process_response(request, response)
        except (StoreUnavailable, LockTimeout) as error:
            return _try_again(error)
        if isinstance(fields, Session) and not fields._life.stored_id:
            # Another request has cycled the key since: only that one knows the new key.
            response.cookies.pop(settings.SESSION_COOKIE_NAME, None)
        return response


@functools.cache
def _config() -> Config:
    options = dict(getattr(settings, "SMARTREDIS", {}))
    for name in options:
        if name.startswith("import_"):
            raise ConfigError(f"option {name}: no sessions are taken over in Django")
        if name.startswith("cookie_") or name in _OTHERS:
            raise ConfigError(f"option {name}: that is Django's; use its own settings")
    options = {"ttl": settings.SESSION_COOKIE_AGE, "lock_scope": "commit", **options}
    config = Config.build(options, on_gone="raise")
    if config.lock_scope == "request":
        raise ConfigError("option lock_scope: 'request' will not do; use commit")
    return config


@functools.cache
def _store() -> Store:
    return Store(_config())


def _forget_settings(setting: str, **_: Any) -> None:
    if setting in ("SMARTREDIS", "SESSION_COOKIE_AGE"):  # a test overrides them
        _config.cache_clear()
        _store.cache_clear()


setting_changed.connect(_forget_settings)


def _open(session_key: str | None) -> Session:
    known = session_key if session_key and ID.fullmatch(session_key) else None
    return Session(_store().begin(lambda _: known))


@contextmanager
def _gone_is_update_error() -> Iterator[None]:
    try:
        yield
    except SessionGone as gone:
        raise UpdateError(str(gone)) from gone


def _try_again(error: Exception) -> HttpResponse:
    config = _config()
    busy = isinstance(error, LockTimeout)
    seconds = math.ceil(config.lock_expiry if busy else config.timeout)
    text = "The session is not available; try again.\n"
    headers = {"Retry-After": str(seconds), "Cache-Control": "no-store"}
    return HttpResponse(text, "text/plain; charset=utf-8", 503, headers=headers)
