"""What runs, messages and events are made of: frozen values and JSON that a database keeps."""
