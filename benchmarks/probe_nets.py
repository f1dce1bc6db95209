"""The networks that ``probes.py`` compares, trained alike but for the architecture and its best learning rate."""

import math
import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regard.data.probes import ADDING_TOLERANCE, PROBE_TOKENS, PROBES, Probe
from regard.models import count_parameters, width_for
from regard.models.initialise import initialise, initialise_recurrent
from regard.modules import FeedForward, MultiHeadAttention, RecurrentLayers, ResidualAttention

__all__ = ["ARCHITECTURES", "Settings", "Trained", "accuracy", "answers", "make", "sensitivity", "train"]

ARCHITECTURES = ("attention", "lstm", "gru")
WIDTH, HEADS, LAYERS = 64, 4, 2
"""Of the attention network; the recurrent ones get the width with as many parameters."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a network is trained; ``max_distance`` is the longest that it meets."""

    max_distance: int = 200
    rows: int = 64
    steps: int = 1200
    warmup: int = 100
    clip: float = 1.0
    check_every: int = 50
    enough: float = 0.9995


@dataclass(kw_only=True)
class Trained:
    """A trained network, the steps and seconds it took, its loss and accuracy on the way."""

    model: nn.Module
    steps: int
    seconds: float
    solved: bool
    curve: list[dict[str, float]]


class ProbeNet(nn.Module):
    """Tokens or marked numbers in, causal layers, logits or one number out at each place."""

    def __init__(self, body: nn.Module, *, output_dim: int, numeric: bool) -> None:
        super().__init__()
        self.numeric = numeric
        self.read = nn.Linear(2, WIDTH) if numeric else nn.Embedding(PROBE_TOKENS, WIDTH)
        self.body = body
        self.answer = nn.Linear(output_dim, 1 if numeric else PROBE_TOKENS)
        for module in (self.read, self.answer):
            initialise(module)
        if not numeric:
            nn.init.normal_(self.read.weight)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.answer(self.hidden(self.read(inputs)))

    def hidden(self, x: Tensor) -> Tensor:
        hidden = self.body(x)
        return hidden[0] if isinstance(hidden, tuple) else hidden


class AttentionBody(nn.Module):
    """Pre-norm layers of causal self-attention with rotary positions, and a last norm."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.ModuleList(
            ResidualAttention(
                MultiHeadAttention(WIDTH, HEADS, causal=True, rotary=10_000.0),
                FeedForward(WIDTH, 4 * WIDTH),
                norm="pre",
            )
            for _ in range(LAYERS)
        )
        self.norm = nn.LayerNorm(WIDTH)
        self.apply(initialise)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layer:
            x = layer(x)
        return self.norm(x)


def make(architecture: str, *, numeric: bool) -> ProbeNet:
    """Return a fresh network; a recurrent one with the parameters of the attention network, within 5 %."""
    if architecture == "attention":
        return ProbeNet(AttentionBody(), output_dim=WIDTH, numeric=numeric)

    def recurrent(width: int) -> ProbeNet:
        layers = RecurrentLayers(WIDTH, width, cell=architecture)
        return ProbeNet(layers, output_dim=width, numeric=numeric)

    with torch.device("meta"):
        wanted = count_parameters(make("attention", numeric=numeric))
    model = recurrent(width_for(wanted, recurrent))
    initialise_recurrent(model.body.layers)
    return model


def train(architecture: str, probe: str, *, lr: float, seed: int, settings: Settings) -> Trained:
    """Train on one distance a batch, even in its logarithm; the longest grows over the first third of the steps.

    It ends early where the network answers nearly everything at the longest distance.
    """
    torch.manual_seed(seed)
    model = make(architecture, numeric=probe == "adding")
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.01)
    shortest, began, curve, step = shortest_distance(probe), time.perf_counter(), [], 0
    held = PROBES[probe](settings.rows * 2, distance=settings.max_distance, seed=(seed, 1 << 30))
    solved = False
    while step < settings.steps and not solved:
        share = min(1.0, (step + 1) / (settings.steps / 3))
        longest = shortest + share * (settings.max_distance - shortest)
        draw = torch.rand(()).item()
        distance = round(math.exp(math.log(shortest) + draw * (math.log(longest) - math.log(shortest))))
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1.0, (step + 1) / settings.warmup) * min(1.0, 3 * (1 - step / settings.steps))
        loss = loss_of(model, PROBES[probe](settings.rows, distance=distance, seed=(seed, step)))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
        optimizer.step()
        optimizer.zero_grad()
        step += 1
        if step % settings.check_every == 0:
            right = accuracy(model, held)
            curve.append({"step": step, "loss": loss.item(), "accuracy": right.mean().item()})
            solved = right.mean().item() >= settings.enough
    return Trained(model=model, steps=step, seconds=time.perf_counter() - began, solved=solved, curve=curve)


def shortest_distance(probe: str) -> int:
    """Return the shortest distance that a network trains on."""
    return 16 if probe == "associative recall" else 8


def answers(model: nn.Module, probe: Probe) -> Tensor:
    """Return what the network says at the places of the answers: logits (rows, answers, tokens) or numbers."""
    said = model(torch.from_numpy(probe.inputs))
    return said.gather(1, torch.from_numpy(probe.places)[:, :, None].expand(-1, -1, said.shape[2]))


def loss_of(model: nn.Module, probe: Probe) -> Tensor:
    """Return the cross-entropy, or the mean squared error of numbers."""
    said, targets = answers(model, probe), torch.from_numpy(probe.targets)
    return (
        F.mse_loss(said[..., 0], targets)
        if probe.is_numeric
        else F.cross_entropy(said.flatten(0, 1), targets.flatten())
    )


def accuracy(model: nn.Module, probe: Probe) -> Tensor:
    """Return the share of right answers of each row, (rows,)."""
    with torch.inference_mode():
        said, targets = answers(model, probe), torch.from_numpy(probe.targets)
    right = (said[..., 0] - targets).abs() < ADDING_TOLERANCE if probe.is_numeric else said.argmax(-1) == targets
    return right.double().mean(1)


def sensitivity(model: ProbeNet, probe: Probe) -> Tensor:
    """Return the Frobenius norm of the derivative of the hidden state at the first answer by what it asks for, (rows,).

    For a gaussian g, E |gᵀ J|² is the squared Frobenius norm of J; each row draws its own g, so a mean of squares over
    rows is an estimate without bias.
    """
    x = model.read(torch.from_numpy(probe.inputs)).detach().requires_grad_()
    hidden = model.hidden(x)
    rows = torch.arange(len(x))
    last = hidden[rows, torch.from_numpy(probe.places)[:, 0]]
    (gradient,) = torch.autograd.grad((last * torch.randn_like(last)).sum(), x)
    return gradient[rows, torch.from_numpy(probe.sources)].norm(dim=1)
