"""Colour images: their luma in OpenCV's YCrCb, and interleaved channels."""
