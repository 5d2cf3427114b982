"""SQL and nothing else: tables, transactions, and one file of queries for each aggregate."""
