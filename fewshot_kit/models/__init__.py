"""Networks by name: `models.create("conv4", ways=5)`. Those of torchvision and timm have names with a slash."""

from ._registry import create, full_name, get, knows, names, register
from .cnn import CNN
from .conv4 import Conv4
from .from_timm import timm_model
from .from_torchvision import torchvision_model
from .initial_weights import filled_later
from .libraries import images_for
from .mlp import MLP
from .omniglot_fc import OmniglotFC
from .own_images import as_options, image_options, images_of
from .resnet import ResNet
from .resnet12 import ResNet12
from .wrn28_10 import WideResNet

__all__ = [
    "CNN",
    "MLP",
    "Conv4",
    "OmniglotFC",
    "ResNet",
    "ResNet12",
    "WideResNet",
    "as_options",
    "create",
    "filled_later",
    "full_name",
    "get",
    "image_options",
    "images_for",
    "images_of",
    "knows",
    "names",
    "register",
    "timm_model",
    "torchvision_model",
]
