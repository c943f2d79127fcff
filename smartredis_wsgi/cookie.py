"""The id in HTTP headers: find it, verify it, send it.

The cookie's value is the id or, where secrets are configured, the id, a dot and an
HMAC-SHA-256 of it (RFC 2104).

The request header is searched by one anchored, bounded regular expression and never
parsed as a whole: odd neighbours can neither hide our cookie nor cost time
(CVE-2024-7592). WebOb makes the response header.
"""

import hashlib
import hmac
import logging
import re
from base64 import urlsafe_b64encode

from webob.cookies import make_cookie

from .config import Config
from .ids import ID

_log = logging.getLogger("smartredis_wsgi")

_MAC = r"[A-Za-z0-9_-]{43}"


class Cookie:
    """The session's cookie, as configured. Pure: no Redis, no clock."""

    def __init__(self, config: Config) -> None:
        self._config = config
        name, mac = re.escape(config.cookie_name), rf"\.{_MAC}" if config.secret else ""
        self._pattern = re.compile(
            rf"(?:^|[;,])[ \t]*{name}=({ID.pattern}{mac})(?=[ \t]*(?:[;,]|\Z))"
        )

    def find(self, header: str) -> str | None:
        """The id in a request's Cookie header: the first that is well-formed and ours.

        Malformed and wrongly signed values are as no cookie. Time is linear in the
        header's length. Two different ids are worth a log line.
        """
        values = self._pattern.findall(header)
        if len(values) < 2 and not self._config.secret:
            return values[0] if values else None
        ids = list(filter(None, map(self._verified, dict.fromkeys(values))))
        if len(ids) > 1:
            name = self._config.cookie_name
            _log.warning(
                "%d different ids in cookie %s; using the first", len(ids), name
            )
        return ids[0] if ids else None

    def header(self, session_id: str) -> tuple[str, str]:
        """The Set-Cookie header that gives the client this id (RFC 6265)."""
        age = self._config.cookie_max_age
        return self._made(self._signed(session_id), max(1, int(age)) if age else None)

    def expiring_header(self) -> tuple[str, str]:
        """The Set-Cookie header that makes the client forget its id."""
        return self._made(None)

    def _made(self, value: str | None, max_age: int | None = None) -> tuple[str, str]:
        config = self._config
        # Given an age WebOb adds a date, by a function that Python warns of since 3.12.
        age = f"; Max-Age={max_age}" if max_age else ""
        text = make_cookie(
            config.cookie_name,
            value,
            path=config.cookie_path,
            domain=config.cookie_domain,
            secure=config.cookie_secure,
            httponly=config.cookie_httponly,
            samesite=config.cookie_samesite,
        )
        return "Set-Cookie", text + age + "; Partitioned" * config.cookie_partitioned

    def _signed(self, session_id: str) -> str:
        keys = self._config.secret
        return f"{session_id}.{_mac(keys[0], session_id)}" if keys else session_id

    def _verified(self, value: str) -> str | None:
        keys = self._config.secret
        if not keys:
            return value
        session_id, _, mac = value.partition(".")
        # Every key is tried, so that time tells nothing about which one fits.
        fits = [hmac.compare_digest(_mac(key, session_id), mac) for key in keys]
        return session_id if any(fits) else None


def _mac(key: bytes, session_id: str) -> str:
    message = b"smartredis_wsgi.id\0" + session_id.encode("ascii")
    made = hmac.new(key, message, hashlib.sha256).digest()
    return urlsafe_b64encode(made).rstrip(b"=").decode("ascii")
