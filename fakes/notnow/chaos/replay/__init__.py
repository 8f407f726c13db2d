"""A recorded run becomes a scenario that does it again: text to facts, facts to TOML."""
