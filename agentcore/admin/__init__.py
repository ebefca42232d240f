"""agentcore in Django's admin: runs, approvals and threads, to read and to act on.

The classes also work on a project's own `AdminSite`: `site.register(Run, RunAdmin)`,
and the same for the others.
"""

from __future__ import annotations

from .approvals import ApprovalAdmin
from .runs import RunAdmin
from .threads import ThreadAdmin

__all__ = ["ApprovalAdmin", "RunAdmin", "ThreadAdmin"]
