"""Placeholder docstring: replaced by the module that fills this package."""
