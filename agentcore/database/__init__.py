"""Many rows in one statement, and what PostgreSQL and SQLite do differently."""
