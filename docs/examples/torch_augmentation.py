"""Equalization as an augmentation of a PyTorch training loop: whole batches, on the device.

The workers of the DataLoader decode and stack; what they return goes to the device, and is equalized there: a
worker is a process of its own, where CUDA does not work after a fork. Needs PyTorch, and CuPy on a GPU.
"""

import torch
from torch.utils.data import DataLoader, Dataset

import histeq


class RandomEqualize(torch.nn.Module):
    """Equalize each image of a batch (N, C, H, W) of uint8 with probability `p`.

    The defaults give the pixels of torchvision's RandomEqualize, which equalizes
    every channel by itself; ``rule="opencv", color="luma"`` keeps the colours of
    RGB. The host waits for nothing.
    """

    def __init__(self, p: float = 0.5, rule: str = "pillow", color: str = "channels") -> None:
        super().__init__()
        self.p, self.rule, self.color = p, rule, color

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        equalized = histeq.equalize(batch, layout="NCHW", rule=self.rule, color=self.color)
        chosen = torch.rand(len(batch), 1, 1, 1, device=batch.device) < self.p
        return torch.where(chosen, equalized, batch)


class Noise(Dataset):
    """Stands for a folder of images."""

    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(index)
        return torch.randint(0, 100, (3, 224, 224), dtype=torch.uint8, generator=generator)


def main(device: str = "cuda") -> float:
    """Go through the images once; return the mean of what a network would be given."""
    augment, total, count = RandomEqualize(), 0.0, 0
    for batch in DataLoader(Noise(), batch_size=16, pin_memory=device == "cuda"):
        lent = augment(batch.to(device, non_blocking=True)).float() / 255
        total, count = total + lent.mean() * len(batch), count + len(batch)
    return float(total / count)


if __name__ == "__main__":
    print(main("cuda" if torch.cuda.is_available() else "cpu"))
