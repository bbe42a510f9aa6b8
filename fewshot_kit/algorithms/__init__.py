"""Few-shot algorithms by name: `algorithms.create("maml", model=net)`."""

from ._registry import create, get, names, register
from .alpha_tim import AlphaTIM
from .anil import ANIL
from .base import Algorithm
from .bd_cspn import BDCSPN
from .boil import BOIL
from .cavia import CAVIA
from .cosine import Cosine
from .feature_head import FeatureHead
from .finetune import Finetune
from .gradient_based import GradientBased
from .imaml import IMAML
from .laplacian_shot import LaplacianShot
from .maml import FOMAML, MAML
from .maml_plus_plus import MAMLPlusPlus
from .mann import MANN
from .matching_net import MatchingNet
from .meta_lstm import MetaLSTM
from .meta_sgd import MetaSGD
from .metric import Metric
from .nearest_centroid import NearestCentroid
from .protonet import ProtoNet
from .pt_map import PTMAP
from .r2d2 import R2D2
from .relation_net import RelationNet
from .reptile import Reptile
from .simple_shot import SimpleShot
from .suggestion import Suggestion, measured, suggest
from .task_conditioned import TaskConditioned

__all__ = [
    "ANIL",
    "BDCSPN",
    "BOIL",
    "CAVIA",
    "FOMAML",
    "IMAML",
    "MAML",
    "MANN",
    "PTMAP",
    "R2D2",
    "Algorithm",
    "AlphaTIM",
    "Cosine",
    "FeatureHead",
    "Finetune",
    "GradientBased",
    "LaplacianShot",
    "MAMLPlusPlus",
    "MatchingNet",
    "MetaLSTM",
    "MetaSGD",
    "Metric",
    "NearestCentroid",
    "ProtoNet",
    "RelationNet",
    "Reptile",
    "SimpleShot",
    "Suggestion",
    "TaskConditioned",
    "create",
    "get",
    "measured",
    "names",
    "register",
    "suggest",
]
