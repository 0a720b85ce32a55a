"""Counting pixels."""
