"""Building blocks of the pure-Python Detectron2 0.6 wheel; `tools/install_detectron2.py` is the command."""
