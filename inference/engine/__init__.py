"""Programs traced once and replayed as graphs, compiled where that pays."""

from ppl_gen.inference.engine.replay import (
    COMPILE_AFTER,
    TRACE_AFTER,
    Engine,
    Replay,
    compiles,
    expect_engine,
    plan,
)

__all__ = [
    "COMPILE_AFTER",
    "TRACE_AFTER",
    "Engine",
    "Replay",
    "compiles",
    "expect_engine",
    "plan",
]
