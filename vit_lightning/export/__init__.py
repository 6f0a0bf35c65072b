"""From a run to files that others can use, each held against `predict`."""
