"""Use cases: what the API, the admin, commands and websockets do; each owns its transaction."""
