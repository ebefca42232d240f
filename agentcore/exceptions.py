"""Every exception of agentcore; the docstring is the default message.

Five families, by who has to act: the caller of a service (`RequestError`), the
model (`ModelRetry`, `ToolFailed`), a person (`EffectUnknown`), the developer
(`UserError`), nobody because the run has failed (`RunError`).
"""

from __future__ import annotations

import inspect
import math
from typing import ClassVar


class AgentcoreError(Exception):
    """Something in agentcore went wrong."""

    code: ClassVar[str] = "error"

    def __init__(self, message: str = "") -> None:
        super().__init__(message)

    def __str__(self) -> str:
        said = "" if not self.args or self.args[0] is None else str(self.args[0])
        return said if said.strip() else _meaning(type(self))

    @property
    def message(self) -> str:
        """The sentence to show: what it was made with, or the first words of its class about itself.

        Applications derive from these classes, so nothing is taken for granted of an instance.
        """
        try:
            return str(self)
        except Exception:
            return _meaning(type(self))

    @message.setter
    def message(self, said: object) -> None:
        self.args = (said,)


def _meaning(kind: type[AgentcoreError]) -> str:
    return (inspect.getdoc(kind) or "").partition("\n\n")[0]


# --- the caller of a service must act ---------------------------------------------------------------------------


class RequestError(AgentcoreError):
    """The request could not be carried out; nothing was changed."""

    code = "request_error"


class NotFound(RequestError):
    """There is nothing here. Check the address, or ask the owner to share it."""

    code = "not_found"


class NotAllowed(RequestError):
    """You may see this, but not do that. Ask someone with the permission."""

    code = "not_allowed"


class CsrfFailed(NotAllowed):
    """The CSRF token is missing or not the session's. Reload the page and send the request again."""

    code = "csrf_failed"


class Invalid(RequestError):
    """The input is not valid. Correct it and send it again."""

    code = "invalid"


class TooLarge(Invalid):
    """The input is too large. Send less at once."""

    code = "too_large"


class Conflict(RequestError):
    """The state has moved on. Reload and look again."""

    code = "conflict"


class KeyConflict(Conflict):
    """This key was used before with another input. Send a new message under a new key."""

    code = "key_conflict"


class ThreadBusy(Conflict):
    """Another run is active in this thread. Wait for it to end, or cancel it first."""

    code = "thread_busy"


class RunEnded(Conflict):
    """The run has ended. Start a new one, or retry it."""

    code = "run_ended"


class RunActive(Conflict):
    """The run has not ended yet. Cancel it first, or wait."""

    code = "run_active"


class AlreadyDecided(Conflict):
    """Somebody has decided this approval already. Reload to see the decision."""

    code = "already_decided"


class ApprovalExpired(Conflict):
    """The approval has expired. The model is told, and may ask again."""

    code = "approval_expired"


class DigestMismatch(Conflict):
    """The arguments are not the ones you were shown. Reload and read them again."""

    code = "digest_mismatch"


# --- the model must act -----------------------------------------------------------------------------------------


class ModelRetry(AgentcoreError):
    """Try this call again, in another way."""

    code = "model_retry"


class ToolFailed(AgentcoreError):
    """The tool failed."""

    code = "tool_failed"


# --- a person must act ------------------------------------------------------------------------------------------


class EffectUnknown(AgentcoreError):
    """It is not known whether the tool has acted; a person finds out, and says so."""

    code = "effect_unknown"


# --- the developer must act -------------------------------------------------------------------------------------


class UserError(AgentcoreError):
    """The application uses agentcore wrongly."""

    code = "user_error"


class NotKept(UserError):
    """A value is another one when it is stored and read again."""

    code = "value_not_kept"


class DuplicateAgent(UserError):
    """Two agents are registered under one name."""

    code = "duplicate_agent"


class UnknownAgent(UserError):
    """No agent is registered under this name. Declare it in an app's agents.py."""

    code = "agent_unknown"


class ModelNotConfigured(UserError):
    """The agent's model cannot be used here: what it needs is not installed, or its key is missing."""

    code = "model_not_configured"


class Unfinished(UserError):
    """A tool has run, and gave back what is yet to be awaited, read, called or entered."""

    code = "unfinished"


class NotRun(UserError):
    """A tool gave back its own body, which has not run yet."""

    code = "not_run"


class InsideTransaction(UserError):
    """A run cannot be driven inside a transaction: a rollback would let tools run again. Drive it after the commit."""

    code = "inside_transaction"


class IllegalMove(UserError):
    """A status may not be left for that other one."""

    code = "illegal_move"


# --- the run fails ----------------------------------------------------------------------------------------------


class RunError(AgentcoreError):
    """The run cannot go on.

    Its message is for whoever sees the run; `detail` is for operators.
    """

    code = "run_error"
    detail: str = ""
    _code: str = ""

    def __init__(self, message: str = "", *, code: str = "", detail: str = "") -> None:
        super().__init__(message)
        self._code = code
        self.detail = detail

    @property
    def run_code(self) -> str:
        """The code of a run that ends with it."""
        return self._code or self.code

    @property
    def shown(self) -> str:
        """The sentence for whoever sees the run."""
        return self.message


class ModelError(RunError):
    """The model provider failed.

    `code` is one of network, rate_limited, overloaded, context_overflow,
    credits, auth, invalid_request, timeout, provider_error; `retry_after` is in
    seconds, also as text, where the provider named a time; what is no number is ignored.
    The message may quote the provider: it is for operators, and whoever sees the run reads
    the sentence of its code.
    """

    code = "provider_error"
    RETRYABLE: ClassVar[frozenset[str]] = frozenset(
        {"network", "rate_limited", "overloaded", "timeout", "provider_error", "empty_answer"}
    )
    SENTENCES: ClassVar[dict[str, str]] = {
        "network": "The connection to the model failed. Try again.",
        "rate_limited": "The model is asked too much at the moment. Try again later.",
        "overloaded": "The model is overloaded at the moment. Try again later.",
        "timeout": "The model took too long to answer. Try again.",
        "context_overflow": "The conversation has become too long for the model. Start a new one.",
        "credits": "The model cannot be used at the moment. Tell whoever runs this site.",
        "auth": "The model cannot be used at the moment. Tell whoever runs this site.",
        "invalid_request": "The model could not take this request. Tell whoever runs this site.",
        "empty_answer": "The model gave no answer. Try again, or ask in another way.",
        "provider_error": "The model failed. Try again; if it lasts, tell whoever runs this site.",
    }

    retry_after: float | None = None
    _retryable: bool | None = None

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        retry_after: float | str | None = None,
        retryable: bool | None = None,
    ) -> None:
        super().__init__(message, code=code, detail=str(message))
        self.retry_after = _seconds(retry_after)
        self._retryable = retryable

    @property
    def retryable(self) -> bool:
        """Whether the model may be asked again: as `retryable=` said, or else by the code."""
        return self.run_code in self.RETRYABLE if self._retryable is None else self._retryable

    @property
    def shown(self) -> str:
        """The sentence of its code, and how long its provider asks to wait."""
        sentence = self.SENTENCES.get(self.run_code, self.SENTENCES["provider_error"])
        if not self.retry_after:
            return sentence
        return f"{sentence} Its provider asks to wait {_span(self.retry_after)}."


def _seconds(said: object) -> float | None:
    """Return a time that a provider named, at least 0; None where it is no finite number."""
    try:
        seconds = float(said)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{math.ceil(seconds)} seconds"
    return f"{math.ceil(seconds / 60)} minutes" if seconds < 7200 else f"{math.ceil(seconds / 3600)} hours"


class LimitReached(RunError):
    """The run has used up a limit its agent sets."""

    code = "limit_reached"


# --- inside the engine: the run is no longer ours ---------------------------------------------------------------


class LeaseLost(BaseException):
    """Another worker has taken this run over, or it has ended; this worker drops it.

    Not an `Exception`, so that an application's broad `except` cannot swallow it.
    """


class CancelRequested(BaseException):
    """Somebody asked to cancel this run; the worker ends it now."""
