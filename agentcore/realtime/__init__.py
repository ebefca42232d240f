"""Threads and their runs, live over websockets."""
