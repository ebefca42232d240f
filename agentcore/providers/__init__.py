"""Model providers; `base` is the protocol, every other file an extra."""
