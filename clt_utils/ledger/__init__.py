"""The ledger: every statement of the book under its slug, with its check and its counterexamples."""

from .core import Claim, Result, Statement, breaks, check, statements
from . import statistics, foundations, trainability, floors_and_sgd, architecture, generalization  # noqa: F401

__all__ = ["Claim", "Result", "Statement", "breaks", "check", "statements"]
