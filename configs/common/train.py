"""Run settings that every config starts from; itpn_d2/engine/schema/ says what each is."""

from itpn_d2.engine.precision import DEVICE
from itpn_d2.engine.schema import Training, defaults

# auto; as a reference, which Detectron2's own scripts follow to a device that torch knows
train = {**defaults(Training), "device": DEVICE}
