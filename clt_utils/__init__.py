"""The code behind the interactive textbook on conjugate learning theory.

Read the modules in this order; arrows of import point one way only:
data, models, duality -> structure -> bounds -> ledger, training -> sweeps -> explore, plots -> the chapters.
"""

__version__ = "0.1.0"
