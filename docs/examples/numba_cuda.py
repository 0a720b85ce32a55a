"""Arrays of numba.cuda: a kernel of one's own writes an image, histeq equalizes it where it is.

Needs CuPy beside Numba, and a GPU. Both use the default stream here, so that their work is in order.
"""

import numpy as np
from numba import cuda

import histeq


@cuda.jit
def draw(image):
    """Draw a dark gradient."""
    y, x = cuda.grid(2)
    if y < image.shape[0] and x < image.shape[1]:
        image[y, x] = (x * 40 // image.shape[1] + y * 40 // image.shape[0]) % 256


def main() -> np.ndarray:
    """Draw an image and return it equalized."""
    image = cuda.device_array((1080, 1920), np.uint8)
    draw[(68, 120), (16, 16)](image)
    histeq.equalize(image, out=image)  # without out= the result is CuPy's
    return image.copy_to_host()


if __name__ == "__main__":
    print(main().mean())
