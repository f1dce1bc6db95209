"""Backends: who computes what ``regard.functional`` promises. Nothing outside ``functional`` imports from here."""
