"""A client's waits: the shape of its back-off, and herds of workers."""
