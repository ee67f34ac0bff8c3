"""Tables in .csv files: what is standardised by what, what comes back, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from ppl_gen import data
from ppl_gen.app.ingredients.data import fingerprint
from ppl_gen.data.formats.tables import write_table

ROWS = 40


def numbers() -> np.ndarray:
    """Three columns of very different units."""
    return np.random.RandomState(0).randn(ROWS, 3) * [1e-3, 1, 1e4] + [0, 50, -1e6]


def table(path: Path, lines: list[str] | None = None) -> Path:
    """Rows of a number, three columns, and a kind of two, parted by commas.

    Args:
        path: Of the file.
        lines: All of its lines, if others.
    """
    if lines is None:
        lines = ["id,a,b,c,kind"]
        for i, row in enumerate(numbers()):
            cells = ",".join(f"{number!r}" for number in row.tolist())
            lines.append(f"{i},{cells},{('dog', 'cat')[i % 2]}")
    path.write_text("\n".join(lines) + "\n", encoding="utf8")
    return path


def loaded(path: Path, **options: Any) -> data.Dataset:
    return data.load(path, **({"leave_out": ("id", "kind")} | options))


def test_columns_are_standardised_by_the_rows_to_train_on(tmp_path: Path) -> None:
    found = loaded(table(tmp_path / "t.csv"))
    assert (len(found.train), len(found.test), found.shape) == (36, 4, (3,))
    x = found.train.x.double()
    torch.testing.assert_close(x.mean(0), torch.zeros(3).double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(x.std(0, correction=0), torch.ones(3).double(), atol=1e-6, rtol=0)
    assert found.columns.names == ("a", "b", "c")
    own = found.columns.in_units(torch.cat([found.train.x, found.test.x])).numpy()
    expected = numbers()
    order = np.argsort(own[:, 1])
    # Single precision of the standardised numbers, in units of each column's deviation.
    error = np.abs(own[order] - expected[np.argsort(expected[:, 1])]) / expected.std(0)
    assert error.max() < 1e-6
    again = found.columns.standardised(found.columns.in_units(found.test.x))
    torch.testing.assert_close(again, found.test.x)


def test_log_densities_go_back_to_the_columns_units(tmp_path: Path) -> None:
    found = loaded(table(tmp_path / "t.csv"))
    x = found.test.x.double()
    standard = torch.distributions.Normal(0.0, 1.0).log_prob(x).sum(-1)
    own = found.columns.in_units(x).numpy()
    exact = stats.norm(found.columns.mean.numpy(), found.columns.sd.numpy()).logpdf(own).sum(-1)
    np.testing.assert_allclose(standard.numpy() - found.columns.log_units, exact, rtol=1e-9)
    assert f"{-found.columns.log_units:+.3f} nats" in found.stored


def test_a_column_of_text_is_a_label_by_wish(tmp_path: Path) -> None:
    found = loaded(table(tmp_path / "t.csv"), leave_out=["id"], label_column="kind")
    assert (found.classes, found.class_names, found.shape) == (2, ("cat", "dog"), (3,))
    assert sorted(torch.cat([found.train.y, found.test.y]).tolist()) == [0] * 20 + [1] * 20


def test_labels_of_numbers_are_in_their_order_and_may_be_missing(tmp_path: Path) -> None:
    lines = ["x,y", *(f"{i},{(10, 9, 2)[i % 3]}" for i in range(30)), "30,"]
    found = data.load(table(tmp_path / "t.csv", lines), label_column="y")
    assert found.class_names == ("2", "9", "10")
    y = torch.cat([found.train.y, found.test.y])
    assert torch.bincount(y + 1).tolist() == [1, 10, 10, 10]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_table_without_names_and_other_delimiters(delimiter: str, tmp_path: Path) -> None:
    lines = [delimiter.join([f"{i}", f"{i * i}.5"]) for i in range(20)]
    found = data.load(table(tmp_path / "t.CSV", lines))
    assert found.columns.names == ("column1", "column2")
    assert len(found.train) + len(found.test) == 20


def test_names_in_quotes_and_a_mark_of_byte_order(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    text = '"length, cm";width\n' + "".join(f"{i};{-i}\n" for i in range(20))
    path.write_text(text, encoding="utf-8-sig")
    assert data.load(path).columns.names == ("length, cm", "width")


def test_empty_cells_are_missing_by_wish(tmp_path: Path) -> None:
    cells = ["", "NA", "?", "nan", *(f"{i}" for i in range(16))]
    path = table(tmp_path / "t.csv", ["a,b", *(f"{cell},{i}" for i, cell in enumerate(cells))])
    with pytest.raises(ValueError, match=r"got none in 4 of 40, in 'a'; .*missing=True"):
        data.load(path)
    found = data.load(path, missing=True)
    x = torch.cat([found.train.x, found.test.x])
    assert x.isnan().sum(0).tolist() == [4, 0]
    assert "10.0% missing" in found.stored
    known = found.columns.in_units(found.train.x)[:, 0]
    torch.testing.assert_close(known[~known.isnan()].mean(), found.columns.mean[0])


def test_a_table_that_is_written_is_read_again(tmp_path: Path) -> None:
    rows = numbers()
    rows[0, 1] = math.nan
    for name in ("t.csv", "t.tsv"):
        write_table(tmp_path / name, ["a", "b, of c", "d"], rows)
        found = data.load(tmp_path / name, missing=True)
        assert found.columns.names == ("a", "b, of c", "d")
        own = found.columns.in_units(torch.cat([found.train.x, found.test.x]))
        torch.testing.assert_close(own[:, 2].sum().item(), rows[:, 2].sum(), rtol=1e-6, atol=0)


def test_other_units_are_other_data(tmp_path: Path) -> None:
    one = ["a,b", *(f"{i},{i % 7}" for i in range(40))]
    other = ["a,b", *(f"{2 * i},{i % 7}" for i in range(40))]
    before = fingerprint(data.load(table(tmp_path / "t.csv", one)))
    after = fingerprint(data.load(table(tmp_path / "t.csv", other)))
    assert [name for name in before if before[name] != after[name]] == ["units of columns"]
    renamed = fingerprint(data.load(table(tmp_path / "t.csv", ["a,c", *one[1:]])))
    assert renamed["units of columns"] != before["units of columns"]


REFUSED: dict[str, tuple[list[str], dict[str, Any], str]] = {
    "text": (
        ["a,b", "1,x", "2,y", "3,z"],
        {},
        r"got text in 'b' \(such as 'x'\); .*leave-out b\), or take one as labels",
    ),
    "a word among numbers": (["a", "1", "2", "three"], {}, "such as 'three'"),
    "one number alone": (["a,b", *["1,5"] * 20], {}, r"got one alone in 'a', 'b'.*leave them out"),
    "nothing": (["a,b", *[f"{i}," for i in range(20)]], {"missing": True}, "got none in 'b'"),
    "infinite": (["a", "1", "inf", "2"], {}, "got inf in column 'a'"),
    "too large": (["a", "1", "1e60", "2"], {}, r"got 1e\+60 in column 'a'"),
    "a short row": (["a,b", "1,2", "3", "4,5"], {}, "got 1 in line 3; mend"),
    "a long row": (["a,b", "1,2", "3,4,5"], {}, "expected 2 cells in every row .*got 3 in line 3"),
    "the same name twice": (["a,a", "1,2"], {}, "got 'a' 2 times"),
    "no name": (["a,", "1,2"], {}, "got none of column 2"),
    "no rows": (["a,b"], {}, "at least 2 data"),
    "nothing at all": ([], {}, "got an empty file"),
    "an unknown column": (["a,b", "1,2"], {"leave_out": "bb"}, "no column 'bb' .*mean 'b'"),
    "an unknown label": (["a,b", "1,2"], {"label_column": "kind"}, "no column 'kind'"),
    "nothing left": (["a,b", "1,2"], {"leave_out": ("a", "b")}, "besides those left out"),
    "no label": (
        ["a,b", *[f"{i},{i}" for i in range(20)]],
        {"label_column": "b"},
        "got 20 different ones in 20 rows; leave the column out",
    ),
    "an open quote": (['a,"b', "1,2"], {}, "cannot read .* as a table"),
    "binarised": (["a", "1", "2"], {"binarize": "static"}, "table as it is, got .* with static"),
    "resized": (["a", "1", "2"], {"image_size": 8}, "with image_size=8; leave it out"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_table_is_refused(name: str, tmp_path: Path) -> None:
    lines, options, said = REFUSED[name]
    with pytest.raises(ValueError, match=said):
        data.load(table(tmp_path / "t.csv", lines), **options)


def test_other_refusals(tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv")
    with pytest.raises(ValueError, match=r"table as it is, got .* with :inverted"):
        data.load(f"{path}:inverted")
    with pytest.raises(ValueError, match=r"expected a table, such as data\.csv, for label_column"):
        data.load("digits", label_column="kind")
    with pytest.raises(ValueError, match=r"no text file .*other\.csv"):
        data.load(tmp_path / "other.csv")
    (tmp_path / "latin.csv").write_bytes(b"gr\xf6\xdfe\n1\n2\n")
    with pytest.raises(ValueError, match=r"cannot read .* as text in UTF-8"):
        data.load(tmp_path / "latin.csv")
    columns = loaded(path).columns
    with pytest.raises(ValueError, match=r"rows of 3 columns .*got shape \(2, 4\)"):
        columns.in_units(torch.zeros(2, 4))


def test_breast_cancer_is_a_table_by_name() -> None:
    found = data.load("breast_cancer")
    assert (len(found.train), len(found.test), found.shape) == (400, 169, (30,))
    assert found.class_names == ("malignant", "benign")
    assert torch.bincount(torch.cat([found.train.y, found.test.y])).tolist() == [212, 357]
    assert found.columns.names[0] == "mean radius"
    own = found.columns.in_units(found.test.x)[:, 0]
    assert 5 < own.min() < own.max() < 30
    torch.testing.assert_close(found.train.x.mean(0), torch.zeros(30), atol=1e-5, rtol=0)
