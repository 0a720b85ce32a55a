"""JAX arrays: images are equalized where they are, between functions that are compiled.

Needs JAX, and CuPy on a GPU. histeq is called outside of jax.jit, with concrete arrays; it returns new ones.
"""

import jax
import jax.numpy as jnp

import histeq


@jax.jit
def normalized(images: jax.Array) -> jax.Array:
    """Return images as a network takes them."""
    return (images.astype(jnp.float32) / 255 - 0.5) / 0.25


def main() -> float:
    """Equalize a batch between two steps of JAX; return the result's deviation."""
    images = jax.random.randint(jax.random.key(0), (16, 256, 256), 0, 100).astype(jnp.uint8)
    return float(normalized(histeq.equalize(images, layout="NHW")).std())


if __name__ == "__main__":
    print(main())
