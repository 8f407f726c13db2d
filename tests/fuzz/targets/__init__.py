"""The targets, one module each: `one(data)` raises for an input that shows a fault of ours. The docstring says what it feeds."""
