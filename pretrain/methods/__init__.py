"""Pre-training methods: a batch in, a dict of losses out."""

from .fastmim import FastMIM

__all__ = ["FastMIM"]
