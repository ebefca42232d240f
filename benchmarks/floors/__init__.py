"""The workloads by hand: what the database, and Django's ORM, allow with the least possible work.

Each makes two durable commits a round, the model step with the calls it asks for
and the results of all of them, and three more: accept the message, the last model
step with its deltas as rows and the assistant's message, end of the run.
"""

from __future__ import annotations
