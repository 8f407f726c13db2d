"""The version of this package, where the lower layers can read it."""

__version__ = "0.1.0"
