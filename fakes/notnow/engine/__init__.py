"""What a fake does about what its clients do: events in, scripts of actions out. No sockets, no clock, no chance without a seed."""
