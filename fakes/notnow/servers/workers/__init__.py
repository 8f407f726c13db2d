"""A fake that uses several processes: workers serve its clients, and this process has the counts and the journal."""
