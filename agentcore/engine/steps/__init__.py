"""What the engine does in one step: a model call, or a round of tool calls."""
