"""Who may do what: one policy object for the API, websockets, admin and services, closed by default."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import lru_cache
from typing import Any

from django.contrib.auth import get_user_model
from django.core.signals import setting_changed
from django.db.models import Q, QuerySet
from django.dispatch import receiver
from django.utils.module_loading import import_string

from .conf import get_settings
from .exceptions import UserError
from .models import Approval, Run, Thread, ToolCall
from .models.fields import LONGEST_NAME
from .values.system import SYSTEM as SYSTEM


class AccessPolicy(ABC):
    """Who may do what. Point `AGENTCORE["ACCESS_POLICY"]` at your subclass, of this or of `OwnerPolicy`.

    `user` is never None, nor SYSTEM, which may do everything.
    """

    @abstractmethod
    def visible_threads(self, user: Any, threads: QuerySet[Thread]) -> QuerySet[Thread]:
        """Return the threads `user` may see."""

    @abstractmethod
    def visible_approvals(self, user: Any, approvals: QuerySet[Approval]) -> QuerySet[Approval]:
        """Return the approvals `user` may see."""

    @abstractmethod
    def may_start(self, user: Any, thread: Thread) -> bool:
        """Whether `user`, who sees the thread, may write to it and start runs."""

    @abstractmethod
    def may_write(self, user: Any, thread: Thread, author: str) -> bool:
        """Whether `user`, who sees the thread, may save a message there as `author`: user, agent, tool or system."""

    @abstractmethod
    def may_delete(self, user: Any, thread: Thread) -> bool:
        """Whether `user`, who sees the thread, may delete it with all that is in it."""

    @abstractmethod
    def may_retry(self, user: Any, run: Run) -> bool:
        """Whether `user`, who sees the run, may have it tried again once it has failed."""

    @abstractmethod
    def may_run(self, run: Run, call: ToolCall) -> bool:
        """Whether `call` may run for whom `run` works; asked right before each call of a tool that is not pure."""

    @abstractmethod
    def may_cancel(self, user: Any, run: Run) -> bool:
        """Whether `user`, who sees the run, may cancel it, or resume it once it is parked."""

    @abstractmethod
    def may_decide(self, user: Any, approval: Approval) -> bool:
        """Whether `user`, who sees the approval, may decide it."""

    @abstractmethod
    def may_resolve(self, user: Any, call: ToolCall) -> bool:
        """Whether `user`, who sees the run, may say whether a call took effect."""


class OwnerPolicy(AccessPolicy):
    """Threads belong to their owner; staff get more by permission, nobody by default."""

    def visible_threads(self, user: Any, threads: QuerySet[Thread]) -> QuerySet[Thread]:
        if _staff_with(user, "agentcore.view_any_thread"):
            return threads
        return threads.filter(owner_id=user.pk) if user.is_authenticated else threads.none()

    def visible_approvals(self, user: Any, approvals: QuerySet[Approval]) -> QuerySet[Approval]:
        if _staff_with(user, "agentcore.decide_approval") or _staff_with(user, "agentcore.view_any_thread"):
            return approvals
        return approvals.filter(Q(run__thread__owner_id=user.pk)) if user.is_authenticated else approvals.none()

    def may_start(self, user: Any, thread: Thread) -> bool:
        return bool(user.is_authenticated and thread.owner_id == user.pk)

    def may_write(self, user: Any, thread: Thread, author: str) -> bool:
        as_themselves = author == "user" and self.may_start(user, thread)
        return as_themselves or _staff_with(user, "agentcore.add_message")

    def may_delete(self, user: Any, thread: Thread) -> bool:
        return self.may_start(user, thread) or _staff_with(user, "agentcore.delete_thread")

    def may_retry(self, user: Any, run: Run) -> bool:
        return self.may_start(user, run.thread) or _staff_with(user, "agentcore.add_run")

    def may_run(self, run: Run, call: ToolCall) -> bool:
        """Whether whoever asked for the run, and whoever owns its thread, are there and active; SYSTEM always is."""
        if run.started_by == repr(SYSTEM):
            return True
        people = {run.user_id} if run.thread.owner_id is None else {run.user_id, run.thread.owner_id}
        # Read anew: since the run was read, anybody may have been deactivated or deleted.
        found = get_user_model()._base_manager.in_bulk([pk for pk in people if pk is not None])
        return found.keys() == people and all(person.is_active for person in found.values())

    def may_cancel(self, user: Any, run: Run) -> bool:
        return run.thread.owner_id == user.pk or _staff_with(user, "agentcore.cancel_any_run")

    def may_decide(self, user: Any, approval: Approval) -> bool:
        return _staff_with(user, "agentcore.decide_approval")

    def may_resolve(self, user: Any, call: ToolCall) -> bool:
        return _staff_with(user, "agentcore.decide_approval")


def name_of(user: Any) -> str:
    """Return under which name what somebody does is kept; no person's is the system's."""
    if user is SYSTEM:
        return repr(SYSTEM)
    name = str(user.get_username())[:LONGEST_NAME]
    return f"user {name}" if name == repr(SYSTEM) else name


def _staff_with(user: Any, permission: str) -> bool:
    return bool(user.is_active and user.is_staff and user.has_perm(permission))


@lru_cache(maxsize=1)
def get_policy() -> AccessPolicy:
    """Return the project's policy; raises `UserError` if the setting names none."""
    path = get_settings().access_policy
    try:
        policy = import_string(path)()
    except ImportError as error:
        raise UserError(f"AGENTCORE['ACCESS_POLICY'] names {path!r}, which cannot be imported.") from error
    except TypeError as error:
        raise UserError(f"AGENTCORE['ACCESS_POLICY'] names {path!r}, which makes no policy: {error}.") from error
    if not isinstance(policy, AccessPolicy):
        raise UserError(f"AGENTCORE['ACCESS_POLICY'] names {path!r}, which is not an AccessPolicy.")
    return policy


def require(user: Any) -> None:
    """Raise `UserError` where a service was given no user: nobody is not SYSTEM."""
    if user is None:
        raise UserError("A service needs a user, or agentcore.SYSTEM where code acts for nobody.")


def visible_threads(user: Any, threads: QuerySet[Thread] | None = None) -> QuerySet[Thread]:
    """Return the threads that `user` may see, of those given; raises `UserError` for None.

    SYSTEM sees all that nobody has deleted.
    """
    require(user)
    kept = (Thread.objects.all() if threads is None else threads).filter(removal_due_at=None)
    return kept if user is SYSTEM else get_policy().visible_threads(user, kept)


def visible_runs(user: Any, runs: QuerySet[Run] | None = None) -> QuerySet[Run]:
    """Return the runs, of those given, in the threads that `user` may see; raises `UserError` for None."""
    found = Run.objects.all() if runs is None else runs
    if user is SYSTEM:
        return found.filter(thread__removal_due_at=None)
    return found.filter(thread__in=visible_threads(user))


def visible_approvals(user: Any, approvals: QuerySet[Approval] | None = None) -> QuerySet[Approval]:
    """Return the approvals that `user` may see, of those given; raises `UserError` for None.

    SYSTEM sees those in all threads that nobody has deleted.
    """
    require(user)
    kept = (Approval.objects.all() if approvals is None else approvals).filter(run__thread__removal_due_at=None)
    return kept if user is SYSTEM else get_policy().visible_approvals(user, kept)


@receiver(setting_changed, dispatch_uid="agentcore.access")
def _forget(*, setting: str, **kwargs: Any) -> None:
    if setting == "AGENTCORE":
        get_policy.cache_clear()
