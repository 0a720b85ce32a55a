"""Whole images in one call: count, make the table, map."""
