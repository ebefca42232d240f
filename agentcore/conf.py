"""agentcore's settings: one dict `AGENTCORE`, every key with a default, read lazily."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

from django.conf import settings as django_settings
from django.core.signals import setting_changed
from django.dispatch import receiver


@dataclass(frozen=True)
class Settings:
    """The values in force; times are in seconds unless the name says otherwise."""

    access_policy: str = "agentcore.access.OwnerPolicy"
    api_auth: tuple[str, ...] = ("agentcore.web.auth.session",)
    queue: str = "agentcore"
    lease_seconds: float = 15
    sweep_seconds: float = 2
    hint_grace_seconds: float = 5
    flush_interval: float = 0.05
    slice_seconds: float = 240
    version_seconds: float = 3600
    job_timeout: int = 600
    drain_seconds: float = 20
    watchdog_seconds: float = 10
    cancel_poll_seconds: float = 0.5
    poison_after: int = 3
    approval_days: float = 7
    tool_timeout: float = 120
    model_timeout: float = 120
    step_seconds: float = 300
    model_retries: int = 3
    retry_after_limit: float = 900
    output_retries: int = 2
    estimate_tokens: bool = False
    result_limit: int = 100_000
    answer_limit: int = 400_000
    arguments_limit: int = 100_000
    calls_limit: int = 256
    context_limit: int = 1_000_000
    message_limit: int = 200_000
    metadata_limit: int = 20_000
    page_limit: int = 1_000_000
    event_limit: int = 1_000_000
    poll_seconds: float = 3
    recheck_seconds: float = 30
    ping_seconds: float = 20
    ack_seconds: float = 30
    socket_window: int = 262_144
    sockets_per_user: int = 50
    still_allowed: str = "agentcore.realtime.tickets.still_allowed"
    failpoints: bool = False


KEYS: dict[str, type] = {
    field.name.upper(): {"str": str, "int": int, "float": float, "bool": bool, "tuple[str, ...]": list}[str(field.type)]
    for field in fields(Settings)
}


MAY_BE_ZERO = frozenset({"MODEL_RETRIES", "OUTPUT_RETRIES"})


def fits(key: str, value: object) -> bool:
    """Whether `value` has the type of a known key, and is neither empty nor negative."""
    kind = KEYS[key]
    if kind is bool:
        return isinstance(value, bool)
    if kind is str:
        return isinstance(value, str) and bool(value)
    if kind is list:
        return isinstance(value, list | tuple) and bool(value) and all(isinstance(item, str) and item for item in value)
    if isinstance(value, bool) or not isinstance(value, (int, float) if kind is float else int):
        return False
    return value > 0 or (value == 0 and key in MAY_BE_ZERO)


def given() -> dict[str, Any]:
    """Return the project's `AGENTCORE` dict as it stands, unchecked."""
    value = getattr(django_settings, "AGENTCORE", {})
    return value if isinstance(value, dict) else {}


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """Return the settings in force; of a key or value that is wrong the system checks tell, and the default holds."""
    values: dict[str, Any] = {}
    for key, value in given().items():
        if key in KEYS and fits(key, value):
            values[key.lower()] = tuple(value) if KEYS[key] is list else value
    return Settings(**values)


@receiver(setting_changed, dispatch_uid="agentcore.conf")
def _forget(*, setting: str, **kwargs: Any) -> None:
    if setting == "AGENTCORE":
        get_settings.cache_clear()
