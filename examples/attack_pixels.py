"""Attacks a recommender in the pixels of its product images.

A small made-up shop: every item has a taste, its image shows it as faint stripes on a bright background, and a
convolutional encoder, trained here to tell tastes apart, turns images into features. VBPR is trained on these features.
The attacker may change every pixel by a few of 255 steps; a change that no customer sees empties the lists.

    python examples/attack_pixels.py
"""

import argparse

import torch

import mmgraph_robust as mr

TASTES, SIDE = 6, 16


class Encoder(torch.nn.Module):
    """Three convolutions and a mean over positions: images ``[n, 3, side, side]`` to features ``[n, 16]``."""

    def __init__(self) -> None:
        super().__init__()
        layers = []
        for inputs, outputs, stride in ((3, 12, 1), (12, 24, 2), (24, 16, 1)):
            layers += [torch.nn.Conv2d(inputs, outputs, 3, stride, 1), torch.nn.BatchNorm2d(outputs), torch.nn.ReLU()]
        self.layers = torch.nn.Sequential(*layers)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        # What is the same everywhere in an image says nothing about stripes.
        return self.layers(10 * (images - images.mean((2, 3), keepdim=True))).mean((2, 3))


def make_images(tastes: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """``[n, 3, side, side]`` in 0 to 1: stripes at an angle per taste, 8 of 255 steps strong, under noise."""
    row, column = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    angle = torch.arange(TASTES)[:, None, None] * torch.pi / TASTES
    stripes = 8 / 255 * torch.sin(2 * torch.pi / 4 * (row * angle.cos() + column * angle.sin()))
    background = 0.25 + 0.5 * torch.rand(tastes.numel(), 3, 1, 1, generator=generator)
    noise = 0.02 * torch.randn(tastes.numel(), 3, SIDE, SIDE, generator=generator)
    return (background + stripes[tastes, None] + noise).clamp(0, 1)


def train_encoder(images: torch.Tensor, tastes: torch.Tensor, epochs: int) -> Encoder:
    """Learns to tell the tastes apart."""
    torch.manual_seed(0)
    encoder, head = Encoder(), torch.nn.Linear(16, TASTES)
    optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()], lr=0.01)
    for _ in range(epochs):
        for rows in torch.randperm(len(images)).split(64):
            loss = torch.nn.functional.cross_entropy(head(encoder(images[rows])), tastes[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    encoder.eval()
    right = (head(encoder(images)).argmax(1) == tastes).float().mean()
    print(f"encoder: {float(right):.0%} of the tastes told apart")
    return encoder


def make_shop(num_users: int, num_items: int, epochs: int):
    """Data whose visual features an encoder made from images, the images, and the encoder."""
    generator = torch.Generator().manual_seed(0)
    tastes = torch.randint(TASTES, (num_items,), generator=generator)
    images = make_images(tastes, generator)
    encoder = train_encoder(images, tastes, epochs)
    with torch.no_grad():
        features = encoder(images)
    liked = torch.randint(TASTES, (num_users,), generator=generator)
    weight = (tastes == liked[:, None]).float() + 0.01
    chosen = torch.multinomial(weight, 8, generator=generator)
    pairs = torch.stack([torch.arange(num_users).repeat_interleave(8), chosen.flatten()])
    label = torch.tensor([0] * 5 + [1] + [2] * 2).repeat(num_users)
    data = mr.data.build(pairs, label, {"visual": features}, num_users=num_users, num_items=num_items)
    return data, images, encoder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, default=400)
    parser.add_argument("--items", type=int, default=240)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--steps", type=int, default=20)
    arguments = parser.parse_args()
    data, images, encoder = make_shop(arguments.users, arguments.items, arguments.epochs)
    model = mr.models.VBPR.from_data(data, embedding_dim=16, reg=0.1)
    mr.fit(model, data, max_epochs=3 * arguments.epochs, batch_size=512, learning_rate=0.01, progress=False)

    def recall(shop) -> float:
        return mr.evaluate(model, shop, metrics=["recall"])["recall@20"]

    print(f"recall@20 clean: {recall(data):.3f}")
    attack = mr.attacks.ContentPGD(encoder, steps=arguments.steps, batch_size=64)
    for step in (1, 2, 4, 8):
        threat = mr.attacks.ThreatModel(["visual"], step / 255, norm="linf", relative=False, box={"visual": (0.0, 1.0)})
        result = attack(model, data, images, threat)
        noisy = (images + step / 255 * torch.randn(images.shape).sign()).clamp(0, 1)
        with torch.no_grad():
            noise = mr.data.with_features(data, {"visual": encoder(noisy)})
        print(f"{step} of 255 per pixel: attacked {recall(result.data):.3f}, noise {recall(noise):.3f}", result.flags)


if __name__ == "__main__":
    main()
