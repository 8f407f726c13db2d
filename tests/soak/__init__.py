"""A soak: all three fakes under mixed load, until clients and servers have counted the same, or have not."""
