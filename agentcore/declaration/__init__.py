"""What an app declares, as the engine reads it: agents, tools, models and context."""
