"""Contrast-limited adaptive histogram equalization: the tables of tiles, and interpolation between them."""
