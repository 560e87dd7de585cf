"""Masked-image pre-training of the backbones."""
