"""Replicas of a fake in many processes, on many machines: one service, whose counts, position and time are in Redis."""
