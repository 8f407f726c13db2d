"""Coverage-guided fuzzing: what a hostile client, file or page may send, fed to the code that reads it."""
