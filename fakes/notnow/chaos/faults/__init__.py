"""The faults of a sweep, its columns: a module for each protocol, named by its record."""
