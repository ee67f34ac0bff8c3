"""How far a computation is: a bar in a terminal or notebook, plain lines where output is piped."""

from __future__ import annotations

__all__ = ["Bar", "track"]

import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from rich.progress import Progress, TaskID

T = TypeVar("T")

_LEAST_SECONDS = 1.0  # between two lines: what takes less prints none


class Bar(Progress):
    """A progress bar; a line for each tenth where there is neither a terminal nor a notebook.

    Args:
        shown: Whether anything is shown.
        transient: Whether the bar goes when it is done.
    """

    def __init__(self, *, shown: bool = True, transient: bool = True) -> None:
        super().__init__(transient=transient, disable=not shown)
        self._in_lines = not (self.console.is_terminal or self.console.is_jupyter)
        self._tenths: dict[TaskID, int] = {}
        self._last_line = time.monotonic()

    def start(self) -> None:
        """Begins to show the bar, where there is one."""
        if not self._in_lines:
            super().start()

    def stop(self) -> None:
        """Ends it."""
        if not self._in_lines:
            super().stop()

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        """Moves a task on by so many steps."""
        super().advance(task_id, advance)
        self._say(task_id)

    def update(self, task_id: TaskID, **changes: Any) -> None:
        """Changes what is shown of a task: `completed`, `total`, `description`, ..."""
        super().update(task_id, **changes)
        self._say(task_id)

    def _say(self, task_id: TaskID) -> None:
        """Prints a line if another tenth is done, and the last line is a while ago."""
        if self.disable or not self._in_lines:
            return
        (task,) = [task for task in self.tasks if task.id == task_id]
        tenth = int(task.percentage // 10)
        now = time.monotonic()
        is_early = now - self._last_line < _LEAST_SECONDS
        if tenth <= self._tenths.get(task_id, 0) or is_early:
            return
        self._tenths[task_id] = tenth
        self._last_line = now
        left = ""
        if task.time_remaining is not None:
            left = f", {task.time_remaining:.0f} s left"
        line = f"{task.description}: {10 * tenth} %{left}"
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)


def track(
    items: Iterable[T],
    description: str,
    *,
    total: int | None = None,
    shown: bool = True,
    transient: bool = True,
) -> Iterator[T]:
    """The items, one by one, with a bar that moves on after each.

    Args:
        items: What is walked through.
        description: What is done meanwhile, for people.
        total: The number of items, where they have no length.
        shown: Whether anything is shown.
        transient: Whether the bar goes when all are done.
    """
    if total is None:
        total = len(items)  # type: ignore[arg-type]
    with Bar(shown=shown, transient=transient) as bar:
        task = bar.add_task(description, total=total)
        for item in items:
            yield item
            bar.advance(task)
