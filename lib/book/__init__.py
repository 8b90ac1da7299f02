"""The book: chapters executed and stamped, pages rendered, the ledger shown."""
