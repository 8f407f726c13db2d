"""How `notnow.fast_forward` works inside."""
