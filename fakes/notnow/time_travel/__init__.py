"""How `notnow.time_travel.fast_forward` works inside."""
