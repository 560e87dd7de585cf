"""Console scripts, one a module, each with ``main(arguments) -> exit status``.

``train_net.py``, ``tools/`` and ``demo/`` of a checkout call the same functions. Pre-training's command is
``pretrain.__main__``, the model zoo's ``itpn_d2.model_zoo.__main__``, and that which installs Detectron2 is
``itpn_d2.detectron2_wheel.install``.
"""
