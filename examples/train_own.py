"""Train a network of your own with siamfast's ops: pairs, augmentation, SiamFC's loss.

python examples/train_own.py --steps 100
"""

import argparse
import itertools

import torch
from torch.utils.data import DataLoader

import siamfast
from siamfast.data.stream import PairStream
from siamfast.data.synthetic import SyntheticPairs

STRIDE, EXEMPLAR, INSTANCE = 8, 127, 255


class Embedding(torch.nn.Sequential):
    """A small network of stride 8 without padding: 127 pixels become 14 cells, 255 become 30."""

    def __init__(self) -> None:
        widths, layers = (3, 16, 32, 32), []
        for before, after in itertools.pairwise(widths):
            layers += [torch.nn.Conv2d(before, after, 3, stride=2), torch.nn.BatchNorm2d(after), torch.nn.ReLU()]
        super().__init__(*layers[:-1])  # the last features keep their sign


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=8)
    options = parser.parse_args()
    torch.manual_seed(0)
    network, scale = Embedding(), torch.nn.Parameter(torch.tensor(0.01))
    optimizer = torch.optim.AdamW([*network.parameters(), scale], lr=2e-3)
    pairs = SyntheticPairs(options.steps * options.batch_size, seed=0)
    batches = DataLoader(PairStream(pairs, options.batch_size), batch_size=None)
    how = {"color_jitter": 0.2, "gray": 0.1, "blur": 0.1}
    for number, batch in enumerate(batches):
        generator = torch.Generator().manual_seed(number)
        z, x = (
            siamfast.augment(
                batch[name],
                siamfast.draw_augmentation(len(batch[name]), batch[name].shape[2:], generator, **how),
                mean=118,
                std=60,
            )
            for name in ("template", "search")
        )
        # The target's centre in cells of the response: its middle cell is the middle of the search crop.
        middle = batch["box"][:, :2] + batch["box"][:, 2:] / 2
        centers = ((INSTANCE - EXEMPLAR) / STRIDE) / 2 + (middle - INSTANCE / 2) / STRIDE
        loss = siamfast.xcorr_balanced_loss(
            network(z), network(x), scale=scale, stride=STRIDE, r_pos=16, r_neg=0, centers=centers
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if number % 10 == 0 or number == options.steps - 1:
            print(f"step {number}: loss {float(loss.detach()):.3f}")


if __name__ == "__main__":
    main()
