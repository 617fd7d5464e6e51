"""All that a method imports of dabench: ``from dabench.api import OfflineMethod, SourceFree``.

These names are stable; where they are defined is not. Reusable maths is in
``dabench.methods.functional``. (No label, no source image and no data set can be reached here.)
"""

from __future__ import annotations

from dabench import views
from dabench.contract.access import (
    BlackBox,
    Budget,
    Online,
    Oracle,
    Recorder,
    SourceFree,
    TargetBatch,
    Unlabelled,
)
from dabench.contract.cost import Cost
from dabench.contract.decay import DecayingSGD, inverse_decay
from dabench.contract.method import OfflineMethod, OnlineMethod, frozen_copy
from dabench.contract.network import Network
from dabench.contract.statistics import SourceStatistics
from dabench.contract.types import (
    IGNORE,
    FloatArray,
    Init,
    IntArray,
    Kind,
    Prediction,
    Separation,
    Task,
)
from dabench.errors import AccessError, ConfigError, TrainingError
from dabench.networks.batchnorm import (
    batch_statistics,
    fixed_statistics,
    set_features,
    set_probabilities,
)
from dabench.networks.dense import upsample
from dabench.networks.ensemble import Ensemble
from dabench.networks.network import joint_groups, trunk_stages
from dabench.views.photometric import Photometric
from dabench.views.warps import Warp

__all__ = [
    "IGNORE",
    "AccessError",
    "BlackBox",
    "Budget",
    "ConfigError",
    "Cost",
    "DecayingSGD",
    "Ensemble",
    "FloatArray",
    "Init",
    "IntArray",
    "Kind",
    "Network",
    "OfflineMethod",
    "Online",
    "OnlineMethod",
    "Oracle",
    "Photometric",
    "Prediction",
    "Recorder",
    "Separation",
    "SourceFree",
    "SourceStatistics",
    "TargetBatch",
    "Task",
    "TrainingError",
    "Unlabelled",
    "Warp",
    "batch_statistics",
    "fixed_statistics",
    "frozen_copy",
    "inverse_decay",
    "joint_groups",
    "set_features",
    "set_probabilities",
    "trunk_stages",
    "upsample",
    "views",
]
