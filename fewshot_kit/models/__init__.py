"""Networks by name: `models.create("conv4", ways=5)`."""

from ._registry import create, get, names, register
from .cnn import CNN
from .conv4 import Conv4
from .mlp import MLP
from .omniglot_fc import OmniglotFC
from .resnet import ResNet

__all__ = ["CNN", "MLP", "Conv4", "OmniglotFC", "ResNet", "create", "get", "names", "register"]
