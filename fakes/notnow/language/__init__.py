"""The language of scenario files: from TOML to a checked `Scenario`."""
