"""System checks: every one has an id, a hint and a place in the documentation, and can be silenced by its id."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from django.apps import AppConfig, apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register
from django.db import DEFAULT_DB_ALIAS, router
from django.utils.module_loading import import_string

from . import access, conf
from .exceptions import UserError
from .providers.named import unusable

DOCS = "https://github.com/django-agentcore/django-agentcore/blob/main/docs/reference/checks.md"
WORKER = "manage.py agentcore_worker"
ROUTED = ("agentcore", "agentcore_streams")


def _error(number: int, message: str, hint: str) -> Error:
    return Error(message, hint=f"{hint} See {DOCS}#agentcoree{number:03}", id=f"agentcore.E{number:03}")


def _warning(number: int, message: str, hint: str) -> Warning:
    return Warning(message, hint=f"{hint} See {DOCS}#agentcorew{number:03}", id=f"agentcore.W{number:03}")


@register("agentcore")
def check_settings(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Check the `AGENTCORE` dict: its keys, their types, and what they name."""
    return [*_keys(), *_policy(), *_functions(), *_apps(), *_time_zones()]


@register("agentcore", deploy=True)
def check_failpoints(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Check that nothing can make the processes of a deployment die on purpose."""
    return list(_failpoints())


@register("agentcore")
def check_queue(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Check that runs have a queue, and that it takes JSON."""
    return [*_queue(), *_deadlines()]


@register("agentcore")
def check_channel_layer(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Check that hints cross processes and that idle websockets survive."""
    return list(_channel_layer())


@register("agentcore")
def check_database(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Check the database's options; touches no database."""
    return [message for options in settings.DATABASES.values() for message in _database(options)]


@register("agentcore")
def check_asgi(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Check that what `ASGI_APPLICATION` names can be imported, so that not the first visitor finds out."""
    return list(_asgi())


@register("agentcore")
def check_routing(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Check that DATABASE_ROUTERS leave agentcore in one database, the default one; touches none."""
    return list(_routing())


@register("agentcore")
def check_models(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Check that the models that agents name can be used here: what they need is installed, and there is a key."""
    return list(_models())


def _keys() -> Iterator[CheckMessage]:
    value = getattr(settings, "AGENTCORE", {})
    if not isinstance(value, dict):
        yield _error(1, "AGENTCORE is not a dict.", "Write AGENTCORE = {…}.")
        return
    for key, given in value.items():
        if key not in conf.KEYS:
            yield _error(1, f"AGENTCORE[{key!r}] is not a setting.", f"Known are {', '.join(sorted(conf.KEYS))}.")
        elif not conf.fits(key, given):
            kind = conf.KEYS[key]
            wanted = {bool: "bool", list: "list of dotted paths"}.get(kind, f"positive {kind.__name__}")
            yield _error(2, f"AGENTCORE[{key!r}] must be a {wanted}, not {given!r}.", "Correct the value.")


def _policy() -> Iterator[CheckMessage]:
    try:
        access.get_policy()
    except UserError as error:
        yield _error(3, str(error), "Name a subclass of agentcore.access.AccessPolicy by its dotted path.")


def _functions() -> Iterator[CheckMessage]:
    values = conf.get_settings()
    for key, path in [*(("API_AUTH", path) for path in values.api_auth), ("STILL_ALLOWED", values.still_allowed)]:
        try:
            found = import_string(path)
        except ImportError as error:
            yield _error(9, f"AGENTCORE[{key!r}] names {path!r}: {error}.", "Name a function by its dotted path.")
            continue
        if not callable(found):
            yield _error(9, f"AGENTCORE[{key!r}] names {path!r}, which is no function.", "Name one that is.")


def _apps() -> Iterator[CheckMessage]:
    if not apps.is_installed("agentcore.streams"):
        yield _error(4, "agentcore.streams is not installed.", "Add it to INSTALLED_APPS, before agentcore.")


def _routing() -> Iterator[CheckMessage]:
    hint = f"Have DATABASE_ROUTERS answer {DEFAULT_DB_ALIAS!r} for reads and writes of the apps {' and '.join(ROUTED)}."
    models = [model for model in apps.get_models() if model._meta.app_label in ROUTED]
    places = {model._meta.label: (router.db_for_write(model), router.db_for_read(model)) for model in models}
    if away := {label: written for label, (written, _) in places.items() if written != DEFAULT_DB_ALIAS}:
        yield _error(6, f"Models are written to a database other than the default one: {_listed(away)}.", hint)
    if apart := {label: read for label, (written, read) in places.items() if read != written}:
        yield _error(7, f"Models are not read from the database they are written to: {_listed(apart)}.", hint)


def _asgi() -> Iterator[CheckMessage]:
    named = getattr(settings, "ASGI_APPLICATION", None)
    if named is None:  # served by WSGI, or by a server that is told the application on its command line
        return
    path = str(named)
    hint = "Mend that module; 'Add agentcore to a project' has one that works. A server would not start with it."
    try:
        application = import_string(path)
    except Exception as error:  # whatever a module of the project's may do when it is imported
        said = f"{type(error).__name__}: {error}{_place(error, path)}"
        yield _error(8, f"ASGI_APPLICATION {path!r} cannot be imported: {said}.", hint)
        return
    if not callable(application):
        yield _error(8, f"ASGI_APPLICATION {path!r} is {application!r}, which is no application.", hint)


def _place(error: Exception, path: str) -> str:
    """The line of the application's own module at which its import broke off, if it came that far."""
    module = f"{path.rpartition('.')[0].replace('.', '/')}.py"
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename.endswith(f"/{module}")
    ]
    return f" ({module}, line {lines[-1]})" if lines else ""


def _time_zones() -> Iterator[CheckMessage]:
    if not settings.USE_TZ:
        hint = "Set USE_TZ = True: leases, due times and expiries are points in time, and not times of day."
        yield _error(10, "USE_TZ is False, so times have no time zone and are hours off.", hint)


def _listed(places: Mapping[str, str]) -> str:
    return ", ".join(f"{label} ({alias})" for label, alias in places.items())


def _failpoints() -> Iterator[CheckMessage]:
    if conf.get_settings().failpoints:
        yield _error(5, "AGENTCORE['FAILPOINTS'] is true.", "Remove it: it belongs into test settings only.")


def _deadlines() -> Iterator[CheckMessage]:
    values = conf.get_settings()
    longest = values.slice_seconds + max(values.step_seconds, values.tool_timeout)
    if values.job_timeout <= longest:
        hint = f"Make it more than {longest:g}: a slice, and the longest step that may begin at its end."
        yield _warning(10, f"AGENTCORE['JOB_TIMEOUT'] is {values.job_timeout}: RQ would break healthy steps off.", hint)


def _models() -> Iterator[CheckMessage]:
    for agent, missing in unusable():
        yield _warning(12, f"Agent {agent!r} cannot ask its model. {missing}", "Until then its runs fail.")


def _queue() -> Iterator[CheckMessage]:
    name = conf.get_settings().queue
    queue = getattr(settings, "RQ_QUEUES", {}).get(name)
    if queue is None:
        hint = f"Add RQ_QUEUES[{name!r}]; until then runs stay pending."
        yield _warning(1, f"There is no RQ queue called {name!r}.", hint)
    elif "JSON" not in str(queue.get("SERIALIZER", "")).upper():
        hint = f"Set it to 'rq.serializers.JSONSerializer', and start the worker with {WORKER}."
        yield _warning(2, f"RQ_QUEUES[{name!r}] does not name the JSON serializer.", hint)
    if "JOB_CLASS" in getattr(settings, "RQ", {}):
        hint = f"Remove it: {WORKER} sets it for agentcore's own worker."
        yield _warning(3, "RQ['JOB_CLASS'] is set for the whole project.", hint)


def _channel_layer() -> Iterator[CheckMessage]:
    layer = getattr(settings, "CHANNEL_LAYERS", {}).get("default")
    if layer is None:
        hint = "Configure CHANNEL_LAYERS['default']; until then pages learn of news by polling the database."
        yield _warning(4, "There is no channel layer.", hint)
        return
    backend = layer.get("BACKEND", "")
    if "InMemory" in backend and not settings.DEBUG:
        hint = "Use channels_redis.pubsub.RedisPubSubChannelLayer: hints from workers do not reach this one."
        yield _warning(5, "The channel layer lives in one process.", hint)
    if backend.startswith("channels_redis."):
        for host in layer.get("CONFIG", {}).get("hosts", ["localhost"]):
            if not (isinstance(host, dict) and host.get("socket_timeout", 0) is None):
                hint = "Write hosts as [{'address': …, 'socket_timeout': None}]; else idle websockets die after 5 s."
                yield _warning(6, "The Redis channel layer has a socket timeout.", hint)


def _database(options: dict[str, Any]) -> Iterator[CheckMessage]:
    engine, extra = options.get("ENGINE", ""), options.get("OPTIONS", {})
    if engine.endswith("sqlite3"):
        if str(extra.get("transaction_mode", "")).upper() != "IMMEDIATE":
            hint = "Set OPTIONS['transaction_mode'] = 'IMMEDIATE'; else concurrent writers fail at once."
            yield _warning(7, "SQLite transactions are not IMMEDIATE.", hint)
        pragmas = str(extra.get("init_command", "")).lower().replace(" ", "")
        if "journal_mode=wal" not in pragmas or "synchronous=full" not in pragmas:
            hint = "Set OPTIONS['init_command'] = 'PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;'."
            yield _warning(8, "SQLite is not in WAL mode with synchronous=FULL.", hint)
    if engine.endswith("postgresql") and "lock_timeout" not in str(extra.get("options", "")):
        hint = "Set OPTIONS['options'] = '-c lock_timeout=5000'; or silence this where the role or the server sets one."
        yield _warning(11, "PostgreSQL waits for locks without end.", hint)
    if options.get("CONN_MAX_AGE", 0) != 0 and getattr(settings, "ASGI_APPLICATION", None):
        hint = "Set it to 0 and, on PostgreSQL, use the backend's pool in web processes."
        yield _warning(9, "CONN_MAX_AGE keeps database connections open under ASGI.", hint)
