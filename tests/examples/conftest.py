"""What stands in directories of its own here is run by tests/test_docs.py, the way a reader would run it."""

collect_ignore_glob = ["readme/careless/*", "misdirected/*", "tutorial/*", "xdist/*", "add-*/*"]
