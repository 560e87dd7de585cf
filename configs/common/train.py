"""Run settings that every config starts from; itpn_d2/engine/schema/ says what each is."""

from itpn_d2.engine.schema import Training, defaults

train = defaults(Training)
