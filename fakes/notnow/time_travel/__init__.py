"""`fast_forward` and its parts: the clock that moves when every thread waits."""
