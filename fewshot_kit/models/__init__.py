"""Networks by name: `models.create("conv4", ways=5)`, also torchvision's and timm's: `"torchvision/resnet18"`."""

from ._making import filled_later
from ._registry import create, get, knows, names, register
from .cnn import CNN
from .conv4 import Conv4
from .libraries import timm_model, torchvision_model
from .mlp import MLP
from .omniglot_fc import OmniglotFC
from .own_images import image_options, images_of
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
    "create",
    "filled_later",
    "get",
    "image_options",
    "images_of",
    "knows",
    "names",
    "register",
    "timm_model",
    "torchvision_model",
]
