"""Detectron2 0.6 as a pure-Python wheel; ``install`` is the command.

Runs before torch and Detectron2 are installed: imports only the standard library and ``itpn_d2.errors``.
"""
