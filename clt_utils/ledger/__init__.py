"""The ledger: every statement of the book under its slug, with its check and its counterexamples."""

# The chapters in the order of the book, since that is the order of `statements`: not to be sorted.
from . import (  # noqa: F401, I001
    what_a_sample_can_tell,
    conjugates,
    fenchel_young_losses,
    divergences,
    conjugate_learning,
    gradient_energy,
    data_set_the_limit,
    mini_batch_sgd,
    architecture,
    entropy_and_information,
    deterministic_bounds,
    probabilistic_bounds,
    beyond,
    classical_complexity,
)
from .core import Claim, Result, Statement, breaks, check, statements

__all__ = ["Claim", "Result", "Statement", "breaks", "check", "statements"]
