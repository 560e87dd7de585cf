"""The targets that masked tokens have to predict."""

from .base import Target, Teacher
from .hog import HOG
from .pixels import Pixels
from .teacher import CLIPTeacher

__all__ = ["HOG", "CLIPTeacher", "Pixels", "Target", "Teacher"]
