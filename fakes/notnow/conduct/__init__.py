"""What the client did, read from the journal: findings, expectations, rules of conduct, and pictures of a run."""
