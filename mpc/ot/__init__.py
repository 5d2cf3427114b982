"""Oblivious transfer: endemic base OT, correlated extension with its consistency check."""
