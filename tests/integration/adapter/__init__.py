"""The adapter for pydantic-ai, against servers that speak the providers' own wires."""
