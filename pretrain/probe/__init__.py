"""How good features are before any fine-tuning: weighted k-nearest neighbours and a linear classifier.

``python -m pretrain.probe --help`` for the command.
"""

from .classifiers import knn_accuracy, linear_probe
from .features import TrunkFeatures, extract_features

__all__ = [
    "TrunkFeatures",
    "extract_features",
    "knn_accuracy",
    "linear_probe",
]
