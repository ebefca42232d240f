"""W1 by hand: what the database, and Django's ORM, allow with the least possible work.

Each makes five durable commits: accept the message, model step, tool step, model
step with its 40 deltas as rows and the assistant's message, end of the run.
"""

from __future__ import annotations
