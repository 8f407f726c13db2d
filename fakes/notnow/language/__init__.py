"""What may be written: moments, the grammar, knobs, and the checks of a scenario file."""
