"""Masked pre-training of a trunk together with its pyramid: ``python -m pretrain --config-file F``."""
