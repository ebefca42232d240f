"""The JSON API, and a middleware that answers while the database is away."""
