"""Console scripts, one per module, each with ``main(arguments) -> exit status``.

``train_net.py``, ``tools/`` and ``demo/`` of a checkout call the same functions. The command for pre-training
is ``pretrain.__main__``, that of the model zoo ``itpn_d2.model_zoo.__main__``, and the one that installs
Detectron2 ``itpn_d2.detectron2_wheel.install``.
"""
