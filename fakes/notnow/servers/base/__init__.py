"""What all fakes share: the loop, the listener, connections, TLS and options."""
