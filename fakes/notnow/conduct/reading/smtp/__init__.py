"""Reading an SMTP run: transactions, the messages that they carried, and the ledger of them."""
