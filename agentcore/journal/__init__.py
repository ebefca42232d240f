"""The run's row and its log: who may write, and how it is written."""
