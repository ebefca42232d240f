"""What breaks things on purpose, and what finds out whether anything was lost."""
