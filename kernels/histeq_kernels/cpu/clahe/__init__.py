"""Contrast-limited adaptive histogram equalization: tables of tiles, and the interpolation between them."""
