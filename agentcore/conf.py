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
    """The values in force; the reference page of settings says more of each."""

    access_policy: str = "agentcore.access.OwnerPolicy"
    """The class that decides who sees and does what, a subclass of `agentcore.access.AccessPolicy`, by dotted path."""
    api_auth: tuple[str, ...] = ("agentcore.web.auth.session",)
    """The functions that say whom an API request is from, by dotted path; the first that knows somebody decides."""
    queue: str = "agentcore"
    """The name in `RQ_QUEUES` that runs are announced on."""
    lease_seconds: float = 15
    """How long a silent worker keeps a run before another may take it over, in seconds."""
    sweep_seconds: float = 2
    """How often the worker that sweeps looks for runs without an owner, in seconds."""
    hint_grace_seconds: float = 5
    """How long an announced run may stay unclaimed before it is announced again, in seconds."""
    flush_interval: float = 0.05
    """How long text is gathered before it is stored and shown, in seconds."""
    slice_seconds: float = 240
    """How long one job drives a run before it gives it back at the next step, in seconds."""
    version_seconds: float = 3600
    """How long a run waits for a worker that has its agent, in a version it may go on with, in seconds."""
    job_timeout: int = 600
    """RQ's backstop for a job whose engine hangs, in seconds; longer than a slice and one step."""
    drain_seconds: float = 20
    """How long a worker that is told to stop waits for its runs to reach a step boundary, in seconds."""
    watchdog_seconds: float = 10
    """How long a worker's event loop may stand still, and a tool's thread outlive its timeout, in seconds."""
    cancel_poll_seconds: float = 0.5
    """How often a worker looks for a request to cancel between its writes, in seconds."""
    poison_after: int = 3
    """How many lost leases without progress make a run wait for a person."""
    approval_days: float = 7
    """How long an approval may be decided, in days."""
    tool_timeout: float = 120
    """How long a tool may take that sets no timeout itself, in seconds."""
    model_timeout: float = 120
    """How long a model may stay silent, in seconds."""
    step_seconds: float = 300
    """How long one model call may take in all, in seconds."""
    model_retries: int = 3
    """How often a failed model call is made again; 0 for never."""
    retry_after_limit: float = 900
    """The longest wait that a provider may name (`Retry-After`), in seconds; for a longer one the run fails at once."""
    output_retries: int = 2
    """How often the model may correct a structured output that is not valid; 0 for never."""
    estimate_tokens: bool = False
    """Whether tokens are estimated for a model that reports no usage."""
    result_limit: int = 100_000
    """How many bytes of JSON are kept of a tool's result."""
    answer_limit: int = 400_000
    """How many bytes of JSON one answer of a model may take in all."""
    arguments_limit: int = 100_000
    """How many bytes the arguments of one call may take as JSON, also when a person edits them."""
    calls_limit: int = 256
    """How many calls one answer may ask for."""
    context_limit: int = 1_000_000
    """How many bytes of JSON the context blocks of a run may have in all."""
    files_limit: int = 20_000_000
    """How many bytes the files may have in all that one model call is given."""
    message_limit: int = 200_000
    """How many bytes of JSON a message of a person may take."""
    metadata_limit: int = 20_000
    """How many bytes of JSON the metadata of a thread or a run may take."""
    page_limit: int = 1_000_000
    """How many bytes one page of messages has, with the runs that come along."""
    event_limit: int = 1_000_000
    """How many bytes an event may take; well above the limits of answers, results and arguments."""
    poll_seconds: float = 3
    """How often a web process looks for events whose hint was lost, in seconds."""
    recheck_seconds: float = 30
    """How often an open socket is authorised again, in seconds."""
    ping_seconds: float = 20
    """How often an idle socket is sent a ping, in seconds."""
    ack_seconds: float = 30
    """How long a socket waits for a client to read, and to acknowledge a mark, in seconds."""
    socket_window: int = 262_144
    """How many bytes a socket sends ahead of its client's acknowledgements, and as many it holds unsent."""
    sockets_per_user: int = 50
    """How many sockets one user may have open in a web process."""
    still_allowed: str = "agentcore.realtime.tickets.still_allowed"
    """The function that says, by a connection's scope, whether it may still be open, by dotted path."""
    failpoints: bool = False
    """Whether tests may make processes die or wait at named points; never true in production."""


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
