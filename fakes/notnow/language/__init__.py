"""What may be written: from the TOML of a scenario file to a checked `Scenario`."""
