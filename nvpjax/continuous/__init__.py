"""Continuous flows, solved by diffrax, which is an extra: ``pip install .[continuous]``. Imported where it solves."""

from nvpjax.continuous.bijector import Continuous
from nvpjax.continuous.matching import FlowMatching
from nvpjax.continuous.trace import ExactTrace, HutchinsonTrace

__all__ = ["Continuous", "ExactTrace", "FlowMatching", "HutchinsonTrace"]
