"""What is decided: events come in, scripts of actions go out. No sockets, no clock, no chance without a seed."""
