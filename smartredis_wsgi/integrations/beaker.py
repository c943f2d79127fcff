"""Beaker: its middleware and session by their names, for an application that moves.

::

    from smartredis_wsgi.integrations.beaker import SessionMiddleware

    app = SessionMiddleware(app, {"session.url": "redis://localhost:6379/0"})

Beaker's options are taken with what they mean here, and ours beside them, such as
``session.lock``; `translated` says what became of each, and the middleware logs it. The
session is in ``environ["beaker.session"]``. As with Beaker, what is changed is stored
if `save` was called, or if ``session.auto`` is on, when the response begins.

With ``session.import_from = beaker`` sessions that Beaker stored go on.

Other than with Beaker, only what changed is written, an exception or a 5xx drops it, a
destroyed session stays so, and an access alone writes nothing: `last_accessed` is when
the session was last saved.
"""

import logging
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any, NamedTuple

from smartredis_wsgi import ConfigError, Session
from smartredis_wsgi import SessionMiddleware as Core

from ..config import Config, seconds
from ..ids import ID
from ..life import Life
from ..middleware import Application, Headers, StartResponse

_log = logging.getLogger("smartredis_wsgi")
_ACCESSED = "_accessed_time"
_PREFIXES = ("beaker.session.", "session.")

_RENAMED = {
    "key": "cookie_name",
    "timeout": "ttl",
    "secure": "cookie_secure",
    "httponly": "cookie_httponly",
    "samesite": "cookie_samesite",
    "data_serializer": "codec",
}
_NEEDLESS = {
    "type": "sessions are in Redis",
    "data_dir": "sessions are in Redis",
    "lock_dir": "locks are in Redis; see lock",
    "invalidate_corrupt": "a corrupt session always counts as empty",
    "save_accessed_time": "every use prolongs a session; nothing is written for it",
    "validate_key": "secret signs the cookie",
    "encrypt_nonce_bits": "nothing is encrypted",
    "crypto_type": "nothing is encrypted",
    "log_file": "see logging",
    "use_cookies": "there is always a cookie",
    "webtest_varname": "the session is in environ",
}
_REFUSED = {
    "encrypt_key": "values are not encrypted; use a codec that does so",
    "session_class": "there is one class of sessions",
    "namespace_class": "sessions are in Redis",
    "id": "a session is chosen by its cookie",
}


class Translation(NamedTuple):
    """Our options for Beaker's, and a line about each that was given."""

    options: dict[str, Any]
    notes: list[str]
    auto: bool
    """Whether changes are stored without `save`."""


def translated(options: Mapping[str, Any]) -> Translation:
    """What Beaker's options, without their prefix, mean here.

    Raises:
        ConfigError: One that has no meaning here, and can't be ignored safely.
    """
    # As Beaker has them where nothing is said: the cookie's name, and plain http.
    ours: dict[str, Any] = {"cookie_name": "beaker.session.id", "cookie_secure": False}
    notes = []
    for name, value in options.items():
        meant, note = _meaning(name, value)
        ours |= meant
        notes.append(f"{name} {note}")
    if ours.get("import_from") == "beaker":  # one cookie's name, and one secret
        known = {"import_cookie": "cookie_name", "import_secret": "secret"}
        ours = {new: ours[name] for new, name in known.items() if name in ours} | ours
    return Translation(ours, notes, _is_on(options.get("auto", False)))


def _meaning(name: str, value: Any) -> tuple[dict[str, Any], str]:
    """Our option for one of Beaker's, if there is one, and what to say about it."""
    if value is None:
        return {}, "is not set"
    if name in _REFUSED:
        raise ConfigError(f"option {name}: {_REFUSED[name]}")
    if name == "use_cookies" and not _is_on(value):
        raise ConfigError(f"option {name}: a session is chosen by its cookie")
    if name in _NEEDLESS:
        return {}, f"is ignored: {_NEEDLESS[name]}"
    if name == "auto":
        return {}, "is on" if _is_on(value) else "is off"
    if name == "cookie_expires":
        return {"cookie_max_age": _max_age(value)}, "is cookie_max_age"
    ours = _RENAMED.get(name, name)
    return {ours: value}, "is kept" if ours == name else f"is {ours}"


def _is_on(value: Any) -> bool:
    return str(value).strip().lower() in ("true", "yes", "on", "1")


def _max_age(value: Any) -> float | None:
    """Beaker's cookie_expires: true means with the browser, false never."""
    word = str(value).strip().lower()
    if word in ("true", "yes", "on"):
        return None
    if word in ("false", "no", "off"):
        return 400 * 86400.0  # the longest that browsers grant
    if isinstance(value, timedelta):
        return value.total_seconds()
    with suppress(ValueError):
        return seconds(value)
    raise ConfigError("option cookie_expires: use true, false or a number of seconds")


class BeakerSession(Session):
    """The session with Beaker's names."""

    __slots__ = ("_auto", "_core", "_others", "_saved")

    def __init__(self, life: Life, core: Core, auto: bool) -> None:
        super().__init__(life)
        self._core, self._auto = core, auto
        self._saved = False
        self._others: list[Life] = []

    def save(self, accessed_only: bool = False) -> None:
        """Have the changes stored when the response begins. No round trip."""
        self._saved = self._saved or not accessed_only

    def revert(self) -> None:
        """Drop the changes. No round trip."""
        self._life.revert()

    def load(self) -> None:
        """Drop the changes and load again. One round trip."""
        self.reload()

    def get_by_id(self, session_id: str) -> Session | None:
        """Another session, or None if there is none. Its `save` stores at once."""
        if session_id == self.id:
            return self
        known = session_id if ID.fullmatch(session_id) else None
        life = self._core.store.begin(lambda _: known)
        self._others.append(life)
        session = Session(life)
        return None if session.is_new else session

    @property
    def last_accessed(self) -> float | None:
        """When it was last saved before, in epoch seconds; None for a new one."""
        moment: float | None = self.get(_ACCESSED)
        return moment

    def has_key(self, name: str) -> bool:
        return name in self

    def accessed(self) -> bool:
        """Whether this request has used it."""
        return self._life.touched

    def dirty(self) -> bool:
        """Whether `save` was called."""
        return self._saved

    def persist(self) -> None:
        """Decide what is stored: called by the middleware when the response begins."""
        self.release_others()
        if not self._life.touched:
            return
        if not (self._saved or self._auto):
            self.forget()
        elif self.modified or (self._saved and not self._life.destroyed):
            self[_ACCESSED] = time.time()

    def release_others(self) -> None:
        """What `get_by_id` gave is not committed any more, nor locked."""
        for life in self._others:
            life.end(keep=False)


class SessionMiddleware:
    """Beaker's `SessionMiddleware`, with the sessions of this package.

    Args:
        config: Options that begin with ``session.`` or ``beaker.session.``; if none
            does, all are taken as they are.
        environ_key: The session's place.
        options: The same as in config, with a prefix or without.

    Raises:
        ConfigError: An unknown option, a wrong value or a contradiction.
    """

    def __init__(
        self,
        wrap_app: Application,
        config: Mapping[str, Any] | None = None,
        environ_key: str = "beaker.session",
        **options: Any,
    ) -> None:
        given = _unprefixed(config or {}) or dict(config or {})
        given |= {name: v for name, v in options.items() if "." not in name}
        given |= _unprefixed(options)
        ours, notes, self._auto = translated(given)
        for note in notes:
            _log.info("beaker: %s", note)
        self.wrap_app = self.app = wrap_app
        self.environ_key = environ_key
        self._core = Core(self._run, ours, environ_key=environ_key)
        self.store = self._core.store

    def __call__(
        self, environ: dict[str, Any], start_response: StartResponse
    ) -> Iterable[bytes]:
        return self._core(environ, start_response)

    def _run(
        self, environ: dict[str, Any], start_response: StartResponse
    ) -> Iterable[bytes]:
        life = environ[self.environ_key]._life
        session = environ[self.environ_key] = BeakerSession(
            life, self._core, self._auto
        )

        def start(status: str, headers: Headers, exc_info: Any = None) -> Any:
            session.persist()
            return start_response(status, headers, exc_info)

        try:
            return self.wrap_app(environ, start)
        except BaseException:
            session.release_others()
            raise


def _unprefixed(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the options that are marked as a session's, by their names here."""
    found: dict[str, Any] = {}
    for prefix in _PREFIXES:
        found |= Config.section(options, prefix)
    return found
