"""Masked pre-training of a trunk together with its pyramid: ``python -m pretrain --config-file F``.

This package belongs to the distribution ``itpn-d2`` and imports from ``itpn_d2``, never the other way round.
"""
