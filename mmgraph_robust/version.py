"""Versions of the package and of what the same settings give, readable without importing torch."""

__version__ = "0.1.0"

# Parts of the names of results, so that results of before are not taken for new ones. To be raised whenever the same
# settings give other numbers, by more than rounding: the first by a change to data, models, defenses or training, the
# second by one to attacks or to how they are judged.
TRAINING_VERSION = 2
ATTACK_VERSION = 6
