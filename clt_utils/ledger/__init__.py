"""The ledger: every statement of the book under its slug, with its check and its counterexamples."""

from . import architecture, floors_and_sgd, foundations, generalization, statistics, trainability  # noqa: F401
from .core import Claim, Result, Statement, breaks, check, statements

__all__ = ["Claim", "Result", "Statement", "breaks", "check", "statements"]
