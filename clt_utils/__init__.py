"""The code behind the interactive textbook on conjugate learning theory.

Each module is one idea, to be read from top to bottom in one sitting. Read them in this order; a module imports only from
the lines above its own, and a test holds it to that:

    data, models, duality                  samples, networks, and the generators from which all else comes
    provenance, correlation, exercises     what a record was made by, how two curves go together, the readers' self-checks
    structure, bounds, entropy             what the theory measures on a network, bounds, and measures on distributions
    dual_steps, plots, interval            steps in the dual; pictures of data; between what bounds a loss lies
    sgd, fitting, finite, figures          plain SGD, a small network fitted, a finite world solved exactly, the drawn figures
    ledger, training, diagnose             every statement with its check, one training loop, the reader's own model
    sweeps                                 grids of training runs, recorded
    explore                                sliders over them
"""

__version__ = "0.1.0"
