"""What a durable run costs: agentcore beside floors written by hand and beside its peers; see README.md."""

from __future__ import annotations
