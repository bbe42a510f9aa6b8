"""Few-shot algorithms by name: `algorithms.create("maml", model=net)`."""

from ._registry import create, get, names, register
from .anil import ANIL
from .base import Algorithm
from .boil import BOIL
from .cavia import CAVIA
from .finetune import Finetune
from .gradient_based import GradientBased
from .imaml import IMAML
from .maml import FOMAML, MAML
from .matching_net import MatchingNet
from .meta_sgd import MetaSGD
from .metric import Metric
from .protonet import ProtoNet
from .r2d2 import R2D2
from .reptile import Reptile

__all__ = [
    "ANIL",
    "BOIL",
    "CAVIA",
    "FOMAML",
    "IMAML",
    "MAML",
    "R2D2",
    "Algorithm",
    "Finetune",
    "GradientBased",
    "MatchingNet",
    "MetaSGD",
    "Metric",
    "ProtoNet",
    "Reptile",
    "create",
    "get",
    "names",
    "register",
]
