"""The jobs that are one meta-gradient: whose network, which tasks, how many steps, and who takes part."""

from __future__ import annotations

from collections.abc import Callable

from fewshot_kit import models

from . import peers
from .contest import Contest, Maker, gradient_contest
from .jax_peer import jax
from .kit import kit
from .settings import Settings, episodes
from .work import Work, sinusoids

LEARN2LEARN = {"learn2learn": Maker(peers.learn2learn, "learn2learn")}
HIGHER = {"higher": Maker(peers.higher, "higher")}
TORCHOPT = {"TorchOpt": Maker(peers.torchopt, "torchopt")}
JAX = {"JAX, jit(vmap(grad))": Maker(jax, "jax", compiles=True)}
AUTO = {"kit, auto": Maker(kit())}
COMPILED = {"kit, compiled": Maker(kit(compiled=True), compiles=True)}
FACTORED, VMAP, LOOP, REFERENCE = (
    {f"kit, {name}": Maker(kit(name))} for name in ("factored", "vmap", "loop", "reference")
)

EVERYBODY = LEARN2LEARN | HIGHER | TORCHOPT | JAX | AUTO | VMAP | LOOP | REFERENCE
CONV4_QUERIES = {1: 1, 5: 5}  # query images of each class, by shots, as in PERF.md


def sinusoid(steps: int) -> Callable[[Settings], Contest]:
    """MAML's regression of sine waves."""

    def contest(settings: Settings) -> Contest:
        about = "MLP 40-40 with ReLU, mean squared error, 25 tasks of 10 + 10 points."
        return gradient_contest(sinusoid_work(settings, steps=steps), EVERYBODY | FACTORED | COMPILED, about)

    return contest


def sinusoid_work(settings: Settings, tasks: int = 25, steps: int = 1, width: int = 40) -> Work:
    """Work on a small network with two hidden layers."""
    model = models.create("mlp", hidden=(width, width), seed=0).to(settings.device)
    return Work(model, sinusoids(tasks).to(settings.device), lr=0.01, steps=steps)


def omniglot_fc(settings: Settings) -> Contest:
    """MAML's fully connected network."""
    about = "Linear 256-128-64-64 with batch norm, 32 tasks, 5 ways, 1 shot, 1 query image a class, 1 step."
    return gradient_contest(omniglot_fc_work(settings), EVERYBODY | FACTORED | COMPILED, about)


def omniglot_fc_work(settings: Settings, tasks: int = 32) -> Work:
    """Work on the fully connected network."""
    model = models.create("omniglot_fc", ways=5, seed=0).to(settings.device)
    return Work(model, episodes(settings, 1, 1, tasks))


def conv4_work(
    settings: Settings,
    shots: int,
    queries: int,
    tasks: int,
    width: int = 64,
    downsample: str = "pool",
    **options: object,
) -> Work:
    """Work on the network with max-pools, unless with strides."""
    model = models.create("conv4", ways=5, hidden=width, downsample=downsample, seed=0).to(settings.device)
    return Work(model, episodes(settings, shots, queries, tasks), **options)  # type: ignore[arg-type]


def conv4(steps: int, first_order: bool = False) -> Callable[[Settings], Contest]:
    """MAML's convolutional network: 5-way 1-shot with 1 step, or 5-way 5-shot with 5 steps."""
    shots, tasks = (1, 32) if steps == 1 else (5, 8)

    def contest(settings: Settings) -> Contest:
        queries = CONV4_QUERIES[shots]
        work = conv4_work(settings, shots, queries, tasks, lr=0.1, steps=steps, first_order=first_order)
        takes_part = LEARN2LEARN | HIGHER | ({} if first_order else TORCHOPT)  # whose MetaSGD has no first order
        if settings.device.type == "cuda":
            takes_part |= JAX | AUTO | COMPILED | VMAP
        elif steps == 1 and not first_order:
            takes_part = EVERYBODY
        else:
            takes_part |= AUTO | VMAP
        about = f"64 channels, 2x2 max-pools, {tasks} tasks, 5 ways, {_several(shots, 'shot')}, "
        about += f"{_several(queries, 'query image')} a class, {_several(steps, 'step')}, "
        about += f"{'first' if first_order else 'second'} order."
        if not takes_part.keys() & JAX.keys():
            about += " JAX and the other engines take part in `conv4_1` only, for the sake of time."
        return gradient_contest(work, takes_part, about)

    return contest


def conv4_stride(settings: Settings) -> Contest:
    """The network as MAML has it on Omniglot, with strides in place of pools."""
    work = conv4_work(settings, 1, 1, 32, downsample="stride", lr=0.4)
    about = "64 channels, stride 2, 32 tasks, 5 ways, 1 shot, 1 query image a class, 1 step, second order."
    return gradient_contest(work, LEARN2LEARN | HIGHER | TORCHOPT | AUTO | VMAP | LOOP, about)


def _several(count: int, word: str) -> str:
    return f"{count} {word}{'s' * (count != 1)}"


def resnet(settings: Settings) -> Contest:
    """The project's own network: 32 channels at full resolution throughout."""
    model = models.create("resnet", ways=5, seed=0).to(settings.device)
    work = Work(model, episodes(settings, 1, 1, 16), lr=0.05)
    about = "4 x 32 channels without pooling in between, SiLU, 16 tasks, 5 ways, 1 shot, 1 query image a class, 1 step."
    return gradient_contest(work, LEARN2LEARN | HIGHER | TORCHOPT | AUTO | VMAP | LOOP, about)


def boil(settings: Settings) -> Contest:
    """The body adapts, the head is left alone."""
    work = conv4_work(settings, 1, 1, 32, algorithm="boil")
    about = "64 channels, 32 tasks, 5 ways, 1 shot, 1 query image a class. learn2learn has no BOIL: its MAML around "
    about += "the body, the head plain. The kit's reference engine is higher with the head frozen."
    peer = {"learn2learn": Maker(peers.one_part_adapts, "learn2learn")}
    return gradient_contest(work, peer | AUTO | VMAP | LOOP | REFERENCE, about)


def anil(settings: Settings) -> Contest:
    """The head adapts, the body is left alone."""
    work = conv4_work(settings, 5, 5, 8, algorithm="anil", lr=0.1, steps=5)
    about = "64 channels, 8 tasks, 5 ways, 5 shots, 5 query images a class, 5 steps. The peer does it in the way of "
    about += "learn2learn's ANIL example (features once), and with the whole model run in each step."
    ways = {
        "learn2learn, features once": Maker(peers.anil_features_once, "learn2learn"),
        "learn2learn, whole model each step": Maker(peers.one_part_adapts, "learn2learn"),
    }
    return gradient_contest(work, ways | AUTO | VMAP | LOOP, about)


def protonet(settings: Settings) -> Contest:
    """No inner loop: embeddings, means, distances."""
    work = conv4_work(settings, 1, 5, 32, algorithm="protonet", steps=0)
    about = "64 channels, 32 tasks, 5 ways, 1 shot, 5 query images a class. The peer is a plain PyTorch loop over "
    about += "the tasks, in the way of learn2learn's prototypical example."
    peer = {"learn2learn": Maker(peers.prototypes_loop)}
    return gradient_contest(work, peer | AUTO | VMAP | LOOP, about)
