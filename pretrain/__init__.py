"""Masked image modelling that pre-trains a trunk together with its pyramid."""
