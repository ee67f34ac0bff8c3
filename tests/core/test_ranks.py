"""Several processes: shares, seeds, and the step of a whole batch made of its shares."""

from __future__ import annotations

from pathlib import Path

import pytest
import several
import torch

from ppl_gen.data import Split, StreamedSplit
from ppl_gen.ranks import ALONE, Ranks, Shares, are_launched, joined


@pytest.mark.parametrize(("n", "count"), [(0, 2), (1, 3), (7, 2), (8, 3), (100, 7)])
def test_shares_are_all_rows_once_and_as_even_as_can_be(n: int, count: int) -> None:
    rows = list(range(n))
    shared: list[int] = []
    sizes = []
    for number in range(count):
        share = rows[Ranks(number, count).share(n)]
        shared += share
        sizes.append(len(share))
    assert shared == rows
    assert max(sizes) - min(sizes) <= 1


def test_seeds_differ_between_processes_epochs_and_what_all_share() -> None:
    seeds = []
    for number in range(3):
        for epoch in range(3):
            seeds.append(Ranks(number, 3).seed(7, epoch))
    common = [Ranks(number, 3).common_seed(7, 1) for number in range(3)]
    assert len({*seeds, common[0]}) == 10
    assert len(set(common)) == 1
    assert Ranks(1, 3).seed(7, 2) == Ranks(1, 5).seed(7, 2)
    torch.manual_seed(max(seeds))


class _Files(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
    """Data that are read one by one, and count how often."""

    def __init__(self) -> None:
        self.read = 0

    def __len__(self) -> int:
        return 11

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        self.read += 1
        return torch.full((1,), float(index)), index


@pytest.mark.parametrize("is_stream", [False, True])
def test_an_epoch_has_all_data_once_in_one_order_wherever_it_begins(is_stream: bool) -> None:
    split: Split | StreamedSplit = Split(torch.arange(11.0)[:, None])
    files = _Files()
    if is_stream:
        split = StreamedSplit(files, labelled=False, workers=0)
    batches = split.batches(4)
    device = torch.device("cpu")

    def epochs(number: int, first: int) -> list[list[torch.Tensor]]:
        shares = Shares(batches, Ranks(number, 2), seed=3, epoch=first, device=device)
        return [[x for (x,) in shares] for _ in range(first, 3)]

    of_both = [epochs(number, 1) for number in range(2)]
    assert files.read in (0, 22)
    for epoch in range(2):
        first, second = of_both[0][epoch], of_both[1][epoch]
        assert [len(x) for x in first] == [2, 2, 1]
        assert [len(x) for x in second] == [2, 2, 2]
        assert sorted(torch.cat(first + second).flatten().tolist()) == list(range(11))
    assert torch.equal(torch.cat(epochs(1, 2)[0]), torch.cat(of_both[1][1]))
    assert not torch.equal(torch.cat(of_both[0][0]), torch.cat(of_both[0][1]))


def test_what_is_drawn_between_shares_is_each_processs_own() -> None:
    batches = Split(torch.zeros(8, 1)).batches(4)
    drawn = []
    for number in (0, 1, 1):
        shares = Shares(batches, Ranks(number, 2), seed=3, epoch=1, device=torch.device("cpu"))
        drawn.append([float(torch.rand(())) for _ in shares])
    assert drawn[1] == drawn[2]
    assert not {*drawn[0]} & {*drawn[1]}


def test_a_process_by_itself_is_alone() -> None:
    assert not are_launched()
    with joined() as ranks:
        assert ranks == ALONE
        assert ranks.gather("x") == ["x"]
        assert ranks.from_first("x") == "x"
        assert ranks.share(5) == slice(0, 5)


@pytest.mark.long
def test_two_processes_make_the_steps_of_the_whole_batch(tmp_path: Path) -> None:
    codes = several.ended(several.forked(2, several.work, tmp_path / "said", tmp_path))
    assert codes == [0, 3], (tmp_path / "said" / "0.txt").read_text()
    first, second = (torch.load(tmp_path / f"{number}.pt") for number in range(2))
    for engine in several.ENGINES:
        alone = several.train(engine, None)
        got = first[engine]
        for name in alone:
            assert torch.equal(got[name], second[engine][name]), name
            scale = float(alone[name].abs().max())
            torch.testing.assert_close(got[name], alone[name], rtol=1e-5, atol=1e-5 * scale)
    for name, alone in (("game", several.play(None)), ("error", several.reconstruct(None))):
        assert torch.equal(first[name], second[name])
        torch.testing.assert_close(first[name], alone, rtol=1e-4, atol=1e-5)
    assert "site 'z' of the guide" in first["fails"]
    assert first["fails"] == second["fails"]
    assert "expected an objective that is an average over the data" in first["refuses"]
    assert torch.equal(second["equal"], torch.zeros(2))
    assert second["gathered"] == [0, 1]
    assert second["from_first"] == "said by 0"
    assert "another process has ended" in (tmp_path / "lost").read_text()
