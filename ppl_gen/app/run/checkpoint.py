"""checkpoint.pt: all that a run needs to go on as if it had not stopped."""

from __future__ import annotations

__all__ = ["FILE", "Checkpoint", "read", "write"]

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ppl_gen.app.config import Config
from ppl_gen.app.ingredients.data import Data, former_fingerprint
from ppl_gen.app.ingredients.fitting import Fitting
from ppl_gen.reading import expect_file
from ppl_gen.sealed import Format, read_sealed, write_sealed
from ppl_gen.states import checksum_of, expect_module_state, expect_optimizer_state

FILE = "checkpoint.pt"
FORMAT = Format(
    family="ppl-gen checkpoint",
    version=4,
    oldest=2,
    sealed_since=3,
    remedy="put a copy of it back, or fit the run anew with --overwrite",
)
# Before the names of the weights of a moving average, among the companions.
_AVERAGE = "average.module."


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What a checkpoint holds, its tensors on the processor.

    Attributes:
        path: Of the file.
        epoch: The number of epochs that are done.
        data: The fingerprint of each part of the data, by its name; in files of version 2 one of
            the training data alone.
        asked: What config.json said when it was written; None in files of version 2.
        program: The state of the program.
        companions: The state of the networks beside it.
        optimizers: The states of the optimisers.
        rng: The state of torch's generator.
        rng_cuda: That of the CUDA device's; None where the model was fitted elsewhere.
        stopping: What the rule has seen that stops the fit, and the weights of its best epoch; None
            where there is no rule, as in files of versions below 4.
    """

    path: Path
    epoch: int
    data: dict[str, str] | str
    asked: dict[str, Any] | None = None
    program: dict[str, Any]
    companions: dict[str, Any]
    optimizers: list[Any]
    rng: Tensor
    rng_cuda: Tensor | None
    stopping: dict[str, Any] | None = None

    @property
    def shown(self) -> int:
        """The number of epochs that the weights which are judged have been fitted for."""
        if self.stopping is None or self.stopping["weights"] is None:
            return self.epoch
        best: int = self.stopping["rule"]["best"]
        return best

    def expect_data(self, data: Data, now: Mapping[str, str]) -> None:
        """Raises ValueError unless data are those that the run was begun with.

        Args:
            data: What is read now.
            now: The fingerprint of each part of them, by its name.
        """
        if isinstance(self.data, str):
            changed = []
            if former_fingerprint(data) != self.data:
                changed = ["training data"]
        else:
            names = [*self.data, *(name for name in now if name not in self.data)]
            changed = [name for name in names if self.data.get(name) != now.get(name)]
        if changed:
            raise ValueError(
                f"the data of the run {self.path.parent} have changed since it was begun: other "
                f"{', '.join(changed)}; put them back, say with --data where they lie now, or fit "
                "these into another --out"
            )

    @property
    def remark(self) -> str:
        """What the user is to know of a file of a former version; else empty."""
        if isinstance(self.data, dict):
            return ""
        return (
            "this run was begun by a former version, which kept no fingerprint of labels and test "
            "data: whether they have changed is not known"
        )

    @property
    def state(self) -> dict[str, Tensor]:
        """The weights that are sampled and judged.

        These are a moving average's where there is one, and those of the best epoch where a rule
        has found one.
        """
        averaged = {}
        for name, weights in self.companions.items():
            if name.startswith(_AVERAGE):
                averaged[name.removeprefix(_AVERAGE)] = weights
        state = averaged or self.program
        if self.stopping is not None:
            state = self.stopping["weights"] or state
        return state

    @property
    def weights(self) -> str:
        """A checksum of these weights: that of the program which they are restored into."""
        return checksum_of(self.state)

    def restore(self, program: Any) -> None:
        """Loads the weights that are sampled and judged, `state`.

        Args:
            program: The program that the run's configuration builds.

        Raises:
            ValueError: If the checkpoint is of another program.
        """
        state = self.state
        with self._errors_of_another_program():
            expect_module_state(program, state, finite=True)
            program.load_state_dict(state)

    def resume(self, fitting: Fitting, device: torch.device) -> None:
        """Loads all that a run needs to go on as if it had not stopped.

        The options of the optimisers, such as learning rates, are those of `fitting`, which has
        them from the configuration.

        Args:
            fitting: What is to move, new.
            device: Where the model is fitted.

        Raises:
            ValueError: If the checkpoint is of another program; nothing has been changed then.
        """
        optimizers = fitting.optimizers
        with self._errors_of_another_program():
            expect_module_state(fitting.program, self.program, finite=True)
            expect_module_state(fitting.companions, self.companions, finite=True)
            if len(self.optimizers) != len(optimizers):
                raise ValueError(f"{len(self.optimizers)} optimisers, not {len(optimizers)}")
            for optimizer, held in zip(optimizers, self.optimizers, strict=True):
                expect_optimizer_state(optimizer, held, options=False)
            self._resume_rule(fitting)
            fitting.program.load_state_dict(self.program)
            fitting.companions.load_state_dict(self.companions)
            for optimizer, held in zip(optimizers, self.optimizers, strict=True):
                own = optimizer.state_dict()["param_groups"]
                optimizer.load_state_dict({"state": held["state"], "param_groups": own})
            torch.set_rng_state(self.rng)
            if self.rng_cuda is not None and device.type == "cuda":
                torch.cuda.set_rng_state(self.rng_cuda, device)

    def _resume_rule(self, fitting: Fitting) -> None:
        """Has the rule go on that stops the fit, if there is one."""
        if fitting.stopping is None:
            if self.stopping is not None:
                raise ValueError("a rule that stops the fit, not none")
            return
        if self.stopping is None:
            if self.epoch:
                raise ValueError("no rule that stops the fit, not one")
            return
        if self.stopping["weights"] is not None:
            expect_module_state(fitting.program, self.stopping["weights"], finite=True)
        fitting.stopping.load_state_dict(self.stopping)

    @contextmanager
    def _errors_of_another_program(self) -> Iterator[None]:
        """Adds the file to what is raised where a checkpoint does not fit a program."""
        try:
            yield
        except (RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(
                f"{self.path} is of another program than config.json says: {reason}; put back the "
                "config.json, or the checkpoint, that belongs to the other"
            ) from error


def write(
    folder: Path,
    epoch: int,
    fitting: Fitting,
    device: torch.device,
    data: Mapping[str, str],
    config: Config,
) -> None:
    """Writes all that a run needs to go on, whole or not at all, with a checksum of it.

    Args:
        folder: Of the run.
        epoch: The number of epochs that are done.
        fitting: What has moved.
        device: Where the model is fitted.
        data: The fingerprint of each part of the data, by its name.
        config: What the run was asked for.
    """
    rng_cuda = None
    if device.type == "cuda":
        rng_cuda = torch.cuda.get_rng_state(device)
    stopping = None
    if fitting.stopping is not None:
        stopping = fitting.stopping.state_dict()
    state = {
        "epoch": epoch,
        "data": dict(data),
        "asked": config.asked(),
        "program": fitting.program.state_dict(),
        "companions": fitting.companions.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in fitting.optimizers],
        "rng": torch.get_rng_state(),
        "rng_cuda": rng_cuda,
        "stopping": stopping,
    }
    write_sealed(folder / FILE, FORMAT, state)


def read(folder: Path) -> Checkpoint:
    """The checkpoint of a run as it was written.

    Args:
        folder: Of the run.

    Raises:
        ValueError: If it is missing, cannot be read, is damaged, of a newer version, or not one of
            this command's.
    """
    path = folder / FILE
    if not os.path.lexists(path):
        raise ValueError(
            f"{folder} has no checkpoint.pt: the run stopped before its first one; go on with "
            "--resume"
        )
    expect_file(path, "move it away")
    version, held = read_sealed(path, FORMAT)
    checks = dict(_CHECKS)
    if version < 4:
        checks.pop("stopping")
    if version == 2:
        checks.pop("asked")
        checks["data"] = _is_word
    held.pop("format")
    for name in (*checks, *held):
        if name not in checks or name not in held or not checks[name](held[name]):
            raise ValueError(
                f"expected a {FORMAT.name!r} file, got something else in {path} ({name}); "
                f"{FORMAT.remedy}"
            )
    return Checkpoint(path=path, **held)


def _is_word(value: Any) -> bool:
    return isinstance(value, str)


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_fingerprint(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_word, [*value, *value.values()]))


def _is_state(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_word, value))


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _is_rng(value: Any) -> bool:
    """Whether a value may be the state of a generator: bytes, of which it has a number of its own.

    Those of a processor are as many everywhere; those of a CUDA device are looked at by torch.
    """
    return type(value) is Tensor and value.dtype == torch.uint8 and value.is_contiguous()


def _is_own_rng(value: Any) -> bool:
    return _is_rng(value) and value.shape == torch.get_rng_state().shape


def _is_rng_or_none(value: Any) -> bool:
    return value is None or _is_rng(value)


def _are_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(number, float) for number in value)


def _is_rule(value: Any) -> bool:
    """Whether a value may be the state of a `Plateau` or of a `Patience`."""
    if not isinstance(value, dict) or not _is_count(value.get("last")):
        return False
    if "levels" in value:
        return _are_numbers(value["levels"]) and _are_numbers(value.get("stage"))
    return isinstance(value.get("highest"), float)


def _is_stopping_or_none(value: Any) -> bool:
    """Whether a value may be what `Stopping.state_dict` gives."""
    if value is None:
        return True
    if not isinstance(value, dict) or value.keys() != {"rule", "weights"}:
        return False
    rule, weights = value["rule"], value["weights"]
    if not _is_rule(rule):
        return False
    if weights is None:
        return rule.get("best") is None
    return _is_state(weights) and _is_count(rule.get("best"))


# What each entry of a file has to be.
_CHECKS: dict[str, Callable[[Any], bool]] = {
    "epoch": _is_count,
    "data": _is_fingerprint,
    "asked": _is_state,
    "program": _is_state,
    "companions": _is_state,
    "optimizers": _is_list,
    "rng": _is_own_rng,
    "rng_cuda": _is_rng_or_none,
    "stopping": _is_stopping_or_none,
}
