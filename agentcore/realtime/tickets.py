"""Who a socket belongs to, asked again and again: a login may end while its socket is open."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model, load_backend
from django.utils.crypto import constant_time_compare
from django.utils.module_loading import import_string

from ..conf import get_settings

__all__ = ["Ticket", "still_allowed"]


def still_allowed(scope: Mapping[str, Any]) -> bool:
    """Whether a connection may still be open; this default says yes, so that only `Ticket.user` decides.

    A project whose tokens run out names a function of its own in `AGENTCORE["STILL_ALLOWED"]`. It gets the scope as
    the project's middleware made it, is called in a thread, may query, and is asked when a socket opens, at every frame
    but acks, and every `RECHECK_SECONDS`.
    """
    return True


@dataclass(frozen=True, slots=True)
class Ticket:
    """A user, the session that vouches for it where there is one, and the scope that the socket was opened with."""

    user_id: Any
    session_key: str | None
    scope: Mapping[str, Any] = field(repr=False)

    @classmethod
    def of(cls, scope: Mapping[str, Any]) -> Ticket | None:
        """Return the ticket of a connection, None for nobody; may query."""
        user = scope.get("user")
        if user is None or not user.is_authenticated:
            return None
        session = scope.get("session")
        # Without a login in the session some other middleware vouches for the user.
        backed = session is not None and SESSION_KEY in session
        return cls(user.pk, session.session_key if session is not None and backed else None, scope)

    def user(self) -> Any | None:
        """Return the user as it is now; None when it is inactive or gone, the login has ended, or a project's rule
        says no.
        """
        if not import_string(get_settings().still_allowed)(self.scope):
            return None
        user = self._from_session() if self.session_key is not None else self._from_id()
        return user if user is not None and user.pk == self.user_id and getattr(user, "is_active", True) else None

    def _from_id(self) -> Any | None:
        return get_user_model()._default_manager.filter(pk=self.user_id).first()

    def _from_session(self) -> Any | None:
        # Django's get_user() would rotate or flush a session with an outdated hash: here it is only read.
        session = import_module(settings.SESSION_ENGINE).SessionStore(self.session_key)
        backend = session.get(BACKEND_SESSION_KEY)
        if SESSION_KEY not in session or backend not in settings.AUTHENTICATION_BACKENDS:
            return None
        pk = get_user_model()._meta.pk
        assert pk is not None
        user = load_backend(backend).get_user(pk.to_python(session[SESSION_KEY]))
        return user if user is not None and _vouches(session.get(HASH_SESSION_KEY, ""), user) else None


def _vouches(stored: str, user: Any) -> bool:
    if not hasattr(user, "get_session_auth_hash"):
        return True
    current = [user.get_session_auth_hash()]
    if hasattr(user, "get_session_auth_fallback_hash"):
        current += user.get_session_auth_fallback_hash()
    return any(constant_time_compare(stored, known) for known in current)
