"""How good features are before any fine-tuning: weighted k-nearest neighbours and a linear classifier.

``python -m pretrain.probe --help`` for the command.
"""

from .classifiers import knn_accuracy, linear_probe
from .features import TrunkFeatures, extract_features
from .sources import as_classes, labelled_source

__all__ = [
    "TrunkFeatures",
    "as_classes",
    "extract_features",
    "knn_accuracy",
    "labelled_source",
    "linear_probe",
]
