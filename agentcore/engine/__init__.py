"""The engine: claims a run, decides the next step from its rows, and commits what happened."""
