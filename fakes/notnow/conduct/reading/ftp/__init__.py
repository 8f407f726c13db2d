"""Reading an FTP run: transfers, the versions of files, and the ledger of them."""
