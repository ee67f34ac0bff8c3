"""Several processes: shares, seeds, and the step of a whole batch made of its shares."""

from __future__ import annotations

from pathlib import Path

import pytest
import several
import torch

from ppl_gen.ranks import ALONE, Ranks, are_launched, joined


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
