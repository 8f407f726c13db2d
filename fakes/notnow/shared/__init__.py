"""Counts that several processes share: replicas of a fake are one service."""
