"""Few-shot algorithms by name: `algorithms.create("maml", model=net)`."""

from ._registry import create, get, names, register
from .alpha_tim import AlphaTIM
from .anil import ANIL
from .baseline import Baseline, BaselinePlusPlus
from .bases.feature_head import FeatureHead
from .bases.gradient_based import GradientBased
from .bases.inner_loop import Rule, adam, descended, inner_loop, leaf, sgd
from .bases.linear_head import LinearHead
from .bases.metric import Metric
from .bases.protocol import Algorithm
from .bases.task_classes import members
from .bd_cspn import BDCSPN
from .boil import BOIL
from .cavia import CAVIA
from .cosine import Cosine
from .finetune import Finetune
from .imaml import IMAML
from .laplacian_shot import LaplacianShot
from .logistic import Logistic
from .lp_ft import LPFT
from .maml import FOMAML, MAML
from .maml_plus_plus import MAMLPlusPlus
from .mann.algorithm import MANN
from .matching_net import MatchingNet
from .meta_baseline import MetaBaseline
from .meta_curvature import MetaCurvature
from .meta_lstm import MetaLSTM
from .meta_sgd import MetaSGD
from .nearest_centroid import NearestCentroid
from .protonet import ProtoNet
from .pt_map import PTMAP
from .r2d2 import R2D2
from .relation_net import RelationNet
from .reptile import Reptile
from .ridge import Ridge
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
    "LPFT",
    "MAML",
    "MANN",
    "PTMAP",
    "R2D2",
    "Algorithm",
    "AlphaTIM",
    "Baseline",
    "BaselinePlusPlus",
    "Cosine",
    "FeatureHead",
    "Finetune",
    "GradientBased",
    "LaplacianShot",
    "LinearHead",
    "Logistic",
    "MAMLPlusPlus",
    "MatchingNet",
    "MetaBaseline",
    "MetaCurvature",
    "MetaLSTM",
    "MetaSGD",
    "Metric",
    "NearestCentroid",
    "ProtoNet",
    "RelationNet",
    "Reptile",
    "Ridge",
    "Rule",
    "SimpleShot",
    "Suggestion",
    "TaskConditioned",
    "adam",
    "create",
    "descended",
    "get",
    "inner_loop",
    "leaf",
    "measured",
    "members",
    "names",
    "register",
    "sgd",
    "suggest",
]
