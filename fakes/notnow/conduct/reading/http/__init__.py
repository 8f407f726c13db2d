"""Reading an HTTP run: requests, their retries, and the ledger of them."""
