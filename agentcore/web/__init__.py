"""HTTP surfaces: projections of the log, and commands."""
