"""What masked tokens have to predict."""

from .base import Target
from .hog import HOG
from .pixels import Pixels

__all__ = ["HOG", "Pixels", "Target"]
