"""Mutation: `python -m tests.mutation --folder conduct` from the checkout prints a table. Nothing in it is a test.

Each mutant is one small change to one module. It is killed if a test of that folder fails, else it survives: then a test
is missing, or the change makes no difference.
"""
