"""Few-shot algorithms by name: `algorithms.create("maml", model=net)`."""

from ._registry import create, get, names, register
from .anil import ANIL
from .base import Algorithm
from .boil import BOIL
from .finetune import Finetune
from .gradient_based import GradientBased
from .maml import FOMAML, MAML
from .metric import Metric
from .protonet import ProtoNet

__all__ = [
    "ANIL",
    "BOIL",
    "FOMAML",
    "MAML",
    "Algorithm",
    "Finetune",
    "GradientBased",
    "Metric",
    "ProtoNet",
    "create",
    "get",
    "names",
    "register",
]
