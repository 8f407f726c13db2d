"""The rules of conduct, by protocol."""
