"""Mapping pixels through a lookup table."""
