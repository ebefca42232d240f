"""What the demo reads from its environment: a database address and a secret of its own."""

from __future__ import annotations

import os
import secrets
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

SQLITE_OPTIONS = {
    # Take the write lock at BEGIN: a transaction that reads first and then writes would fail at once under load.
    "transaction_mode": "IMMEDIATE",
    "timeout": 20,
    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
}
POSTGRES_OPTIONS = {
    "connect_timeout": 5,
    # A worker sends the same few statements over and over: the server keeps their plans. Behind a pooler in transaction
    # mode this is None and `options` is left out, see docs/howto/deploy.md.
    "prepare_threshold": 2,
    # In milliseconds. Whoever waits for longer gives up and tries again, and does not queue up behind a migration.
    "options": "-c lock_timeout=5000 -c statement_timeout=30000 -c idle_in_transaction_session_timeout=10000",
}


def flag(name: str, default: bool) -> bool:
    """Read a yes-or-no variable; anything but 0, no, false and off is yes."""
    value = os.environ.get(name)
    return default if value is None else value.strip().lower() not in {"", "0", "no", "false", "off"}


def database(url: str) -> dict[str, Any]:
    """Return Django's settings for `sqlite:///path` or `postgres://…`; raises `ValueError` for anything else."""
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        # sqlite:///relative and sqlite:////absolute, as everywhere else.
        name = unquote(parts.path.removeprefix("/"))
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": name, "OPTIONS": dict(SQLITE_OPTIONS)}
    if parts.scheme not in {"postgres", "postgresql"}:
        raise ValueError(f"DATABASE_URL starts with {parts.scheme!r}; use sqlite:///path or postgres://…")
    # A socket directory is given as ?host=/path, since it cannot stand where a host name does.
    socket = parse_qs(parts.query).get("host", [""])[0]
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.removeprefix("/")),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": socket or parts.hostname or "",
        "PORT": str(parts.port or ""),
        "OPTIONS": dict(POSTGRES_OPTIONS),
    }


def private_directory(path: Path) -> Path:
    """Make a directory that git ignores by itself, and return it."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    ignore = path / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n")
    return path


def checkout_secret(path: Path) -> str:
    """Return the secret kept at `path`, made on first use; processes that start together agree on one."""
    if not path.exists():
        handle, draft = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_urlsafe(48))
        try:
            os.link(draft, path)  # unlike a rename, never replaces what another process has put there
        except FileExistsError:
            pass
        finally:
            os.unlink(draft)
    return path.read_text().strip()
