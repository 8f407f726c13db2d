"""What the journal says about the client: messages, attempts, back-off."""
