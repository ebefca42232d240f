"""Tools that read the source tree: layers and coverage of numbered expectations."""
