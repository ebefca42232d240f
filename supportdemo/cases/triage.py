"""What the desk wants to know of each answer, as data."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Category = Literal["delivery", "refund", "damage", "invoice", "other"]
RefundState = Literal["none", "made", "denied", "failed", "stopped", "unverified"]


class Triage(BaseModel):
    """The case in a few words, for whoever works through the list."""

    model_config = ConfigDict(extra="forbid")

    category: Category = Field(description="What the customer's message is mainly about.")
    urgency: Literal["low", "normal", "high"]
    sentiment: Literal["negative", "neutral", "positive"] = Field(description="How the customer feels.")
    summary: str = Field(max_length=300, description="One or two sentences for a colleague.")
    refund: RefundState = Field(
        description="What became of the refund: “made” only if issue_refund succeeded; “none” if none was asked for."
    )
