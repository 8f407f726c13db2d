"""The benchmark: `python -m tests.bench` from the checkout prints it as a table. Nothing in it is a test."""
