"""Search for the fault that makes a client lose data: every fault at every event, invented scenarios, and recorded ones."""
