"""`Agent`: a definition, and the services that work on it as namespaces."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Concatenate, ParamSpec
from uuid import UUID

from .declaration import registry
from .declaration.agent import AgentDefinition
from .models import Run, Thread, ToolCall
from .services import approvals, deletion, events, execution, messages, runs, sending, threads, unverified
from .services.approvals import Decision
from .services.messages import Content
from .services.twins import twin

__all__ = ["Agent", "Decision"]


P = ParamSpec("P")


def _declared_as(definition: Callable[P, AgentDefinition]) -> Callable[[Any], Callable[Concatenate[Agent, P], None]]:
    """Give a constructor the parameters of a definition, for type checkers, editors and `help()`: they stand once."""

    def with_parameters(constructor: Any) -> Callable[Concatenate[Agent, P], None]:
        itself = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        of = inspect.signature(definition)
        constructor.__signature__ = of.replace(parameters=[itself, *of.parameters.values()])
        return constructor  # type: ignore[no-any-return]

    return with_parameters


class Agent:
    """An agent of an app: declared once, in the app's `agents.py`, under a name that is stored with its runs."""

    @_declared_as(AgentDefinition)
    def __init__(self, **declared: Any) -> None:
        """Declare and register the agent; `AgentDefinition` says what each parameter means.

        Raises `UserError` for what cannot work, and `DuplicateAgent` for a taken name.
        """
        self.definition = AgentDefinition(**declared)
        registry.register(self.definition)
        self.threads = Threads()
        self.messages = Messages()
        self.runs = Runs(self.definition)
        self.tools = Tools()
        self.events = Events()

    @property
    def name(self) -> str:
        """The name its runs are stored under."""
        return self.definition.name

    def __repr__(self) -> str:
        return f"<Agent {self.name}>"


class Threads:
    """`agent.threads`."""

    create = staticmethod(threads.create)
    acreate = staticmethod(threads.acreate)
    get = staticmethod(threads.get)
    aget = staticmethod(threads.aget)
    list = staticmethod(threads.list_)
    alist = staticmethod(threads.alist)
    delete = staticmethod(deletion.delete)
    adelete = staticmethod(deletion.adelete)


class Messages:
    """`agent.messages`."""

    save = staticmethod(messages.save)
    asave = staticmethod(messages.asave)
    list = staticmethod(messages.list_)
    alist = staticmethod(messages.alist)


class Runs:
    """`agent.runs`."""

    get = staticmethod(runs.get)
    aget = staticmethod(runs.aget)
    list = staticmethod(runs.list_)
    alist = staticmethod(runs.alist)
    cancel = staticmethod(runs.cancel)
    acancel = staticmethod(runs.acancel)
    retry = staticmethod(sending.retry)
    aretry = staticmethod(sending.aretry)
    resume = staticmethod(runs.resume)
    aresume = staticmethod(runs.aresume)
    link = staticmethod(runs.link)
    alink = staticmethod(runs.alink)
    execute = staticmethod(execution.execute)
    aexecute = staticmethod(execution.aexecute)

    def __init__(self, definition: AgentDefinition) -> None:
        self._definition = definition

    def send(
        self,
        thread: Thread | UUID | str,
        content: Content,
        *,
        user: Any,
        key: str = "",
        metadata: Mapping[str, Any] | None = None,
    ) -> Run:
        """Save a message and start a run on it, in one transaction; workers drive it once that is committed.

        The same `key` with the same input returns the run that it made before. Raises
        `KeyConflict` where a key comes with other input, `ThreadBusy` where the agent
        rejects a message to a busy thread, `NotFound` for a thread that `user` does not
        see, `NotAllowed` for one that they may not write to, `Invalid` for content,
        metadata or a key that cannot be kept, and `Conflict` where others keep coming first.
        """
        return sending.send(self._definition, thread, content, user=user, key=key, metadata=metadata)

    def start(
        self,
        thread: Thread | UUID | str,
        content: Content | None = None,
        *,
        user: Any,
        key: str = "",
        metadata: Mapping[str, Any] | None = None,
    ) -> Run:
        """Start a run with a prompt, or with None over the history as it stands; `key` and what it raises as `send`."""
        return sending.start(self._definition, thread, content, user=user, key=key, metadata=metadata)

    asend = twin(send)
    astart = twin(start)


class Tools:
    """`agent.tools`: the recorded calls of a run, and the decisions on them."""

    approve = staticmethod(approvals.approve)
    aapprove = staticmethod(approvals.aapprove)
    deny = staticmethod(approvals.deny)
    adeny = staticmethod(approvals.adeny)
    decide = staticmethod(approvals.decide)
    adecide = staticmethod(approvals.adecide)
    pending = staticmethod(approvals.pending)
    apending = staticmethod(approvals.apending)
    resolve = staticmethod(unverified.resolve)
    aresolve = staticmethod(unverified.aresolve)

    @staticmethod
    def list(run: Run | UUID | str, *, user: Any) -> list[ToolCall]:
        """Return a run's calls in the order they were asked for; raises `NotFound` for a run `user` does not see."""
        found = runs.get(run, user=user)
        return [*ToolCall.objects.filter(run=found).select_related("run").order_by("created_at", "position")]

    @staticmethod
    async def alist(run: Run | UUID | str, *, user: Any) -> Sequence[ToolCall]:
        """Do what `list` does."""
        return await twin(Tools.list)(run, user=user)


class Events:
    """`agent.events`: the log of a run."""

    read = staticmethod(events.read)
    aread = staticmethod(events.aread)
    read_batch = staticmethod(events.read_batch)
    aread_batch = staticmethod(events.aread_batch)
