"""Decompositions that fail for one chain must not stop the others: in a traced graph they give NaN instead of raising."""

from __future__ import annotations

__all__ = ["without_checks"]

import operator

import torch
from torch import Tensor, fx


def _or_nan(result: Tensor, info: Tensor) -> Tensor:
    failed = (info != 0).reshape(info.shape + (1,) * (result.dim() - info.dim()))
    return torch.where(failed, torch.nan, result)


def without_checks(graph: fx.GraphModule) -> fx.GraphModule:
    """Erases the checks that raise where a decomposition fails, and puts NaN into the result of that matrix instead.

    A chain whose covariance is not positive definite so has an energy of NaN, and counts as divergent.
    """
    nodes = graph.graph.nodes
    for check in [n for n in nodes if n.target is torch.ops.aten._linalg_check_errors.default]:
        info = check.args[0]
        if isinstance(info, fx.Node) and info.target is operator.getitem:
            decomposition = info.args[0]
            assert isinstance(decomposition, fx.Node)
            for result in [n for n in decomposition.users if n.target is operator.getitem and n.args[1] == 0]:
                with graph.graph.inserting_after(max(result, info, key=list(nodes).index)):
                    marked = graph.graph.call_function(_or_nan, (result, info))
                result.replace_all_uses_with(marked, delete_user_cb=lambda user, marked=marked: user is not marked)
        graph.graph.erase_node(check)
    graph.recompile()
    return graph
