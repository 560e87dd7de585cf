"""What masked tokens have to predict."""

from .teacher import CLIPTeacher

__all__ = ["CLIPTeacher"]
