"""What a model step has used, added to its run, and the note on a run whose model does not say."""

from __future__ import annotations

import logging

from ...journal.commit import Commit
from ...values import events
from ...values.logextra import log_extra
from ...values.usage import Usage
from ..snapshot import Snapshot
from .draft import Draft
from .turn import Turn

logger = logging.getLogger("agentcore.engine")

USAGE_MISSING = "usage_missing"
NOTES = {
    False: "The model does not report what it uses, so {limits} cannot end the run. Have its adapter report usage, or "
    "set AGENTCORE['ESTIMATE_TOKENS'].",
    True: "The model does not report what it uses: {limits} goes by tokens that are estimated from characters.",
}
"""What a run notes of such a model, by whether its tokens are estimated."""


def used(state: Snapshot, draft: Draft) -> Commit:
    """Return the commit that adds a step's tokens to the run's, however the step ended."""
    usage = draft.used
    if usage == Usage():
        return Commit()
    total = state.run.used + usage
    return Commit(events=[events.UsageAdded(draft.step, usage.to_json())], run={"usage": total.to_json()})


def note_unreported(turn: Turn) -> Commit:
    """Return the commit that notes, once a run, that its model does not say what a limit goes by."""
    run, bounds = turn.state.run, turn.definition.limits
    limited = [name for name in ("max_tokens", "max_cost") if getattr(bounds, name) is not None]
    if not limited or turn.draft.usage != Usage() or USAGE_MISSING in run.notes:
        return Commit()
    said = NOTES[turn.draft.asked_with is not None].format(limits=" and ".join(limited))
    extra = log_extra(USAGE_MISSING, run.pk, turn.lease.claim.attempt)
    logger.warning("%s", said, extra=extra)
    return Commit(run={"notes": {**run.notes, USAGE_MISSING: said}})
