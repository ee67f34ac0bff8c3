"""The sections of a report: each shows what all of its runs have of one kind."""

from __future__ import annotations

__all__ = ["SECTIONS", "Section"]

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

from ppl_gen.app.report import commands, numbers, pictures
from ppl_gen.app.report.findings import headlines, verdict_of, warnings
from ppl_gen.app.report.markup import Html, cells, joined, tag, worded
from ppl_gen.app.report.numbers import Number, number_of, spelled
from ppl_gen.app.report.pictures import Picture
from ppl_gen.app.report.subject import Subject

_LOOKS = (
    "latents",
    "manifold",
    "traverse",
    "interpolate",
    "overlap",
    "aggregate",
    "walk",
    "neighbours",
    "attributes",
    "impute",
    "anomaly",
)
_OUTCOMES = {True: "nothing speaks against it", None: "not judged yet"}
_CLASSES = {True: "good", False: "bad", None: ""}
# What stands in the table of runs beside each other: a quantity, the part of it, and its name.
_BESIDE = (
    ("log_evidence", "", "log p(x), nats"),
    ("elbo", "", "ELBO, nats"),
    ("ais", "", "log p(x) by AIS, nats"),
    ("noise", "", "log p(x) under noise, nats"),
    ("collapse", "rate", "KL from prior, nats"),
    ("two_sample", "MMD²", "MMD² from test data"),
    ("two_sample", "Fréchet distance", "Fréchet distance"),
    ("two_sample", "precision", "precision"),
    ("two_sample", "recall", "recall"),
    ("two_sample", "coverage", "coverage"),
)
_NONE = "–"


class _Row(NamedTuple):
    """A row of a table.

    Attributes:
        values: What stands in each cell.
        command: What made the numbers in it; empty where there are none.
        is_current: Whether they are of the present weights.
    """

    values: Sequence[str]
    command: str = ""
    is_current: bool = True


class Section(NamedTuple):
    """A part of the page.

    Attributes:
        name: Of its place in the page: "#curves".
        heading: What stands above.
        content: Makes what stands below, of all runs.
    """

    name: str
    heading: str
    content: Callable[[Sequence[Subject]], Html]


def _verdict(subjects: Sequence[Subject]) -> Html:
    """Each run in sentences."""
    return _beside([_verdict_of(subject) for subject in subjects])


def _verdict_of(subject: Subject) -> Html:
    verdict = verdict_of(subject)
    against = warnings(subject)
    count = len(against)
    outcome = _OUTCOMES.get(verdict.passes)
    if outcome is None:
        outcome = f"{count} warnings"
    if count == 1:
        outcome = "1 warning"
    kind = _CLASSES[verdict.passes]
    badge = tag("span", outcome, class_=f"badge {kind}".strip())
    sentences = [tag("li", worded(each.sentence)) for each in headlines(subject)]
    parts = [tag("h3", subject.name, " ", badge), tag("ul", *sentences)]
    if against:
        parts.append(tag("p", "What speaks against it:", class_="bad-text"))
        parts.append(tag("ul", *[tag("li", worded(each.sentence)) for each in against]))
    return tag("div", *parts, class_=f"verdict {kind}".strip())


def _runs(subjects: Sequence[Subject]) -> Html:
    """One column for each run, and what keeps their numbers apart."""
    rows = [
        ["model", *[subject.run.config.model for subject in subjects]],
        ["data", *[subject.data_name for subject in subjects]],
        ["epochs", *[_epochs(subject) for subject in subjects]],
        ["numbers in the weights", *[f"{subject.numbers:,}" for subject in subjects]],
    ]
    for quantity, part, name in _BESIDE:
        shown = [_cell(subject, quantity, part) for subject in subjects]
        if any(cell != _NONE for cell in shown):
            rows.append([name, *shown])
    header = ["", *[subject.name for subject in subjects]]
    table = _table("Runs beside each other", header, list(map(_Row, rows)))
    said = [tag("p", worded(sentence)) for sentence in _apart(subjects)]
    return joined([*said, table])


def _epochs(subject: Subject) -> str:
    if subject.done is None:
        return "none"
    if not subject.run.config.passes:
        return "needs none"
    said = f"{subject.done} of {subject.run.config.passes}"
    if subject.epoch != subject.done:
        said += f", weights of epoch {subject.epoch}"
    return said


def _cell(subject: Subject, quantity: str, part: str) -> Html | str:
    entry = subject.entries.get(quantity)
    if entry is not None and part:
        entry = {**entry, **(entry.get(part) or {"value": None})}
    value = None
    if entry is not None:
        value = number_of(entry, "value")
    if entry is None or value is None:
        return _NONE
    said = spelled(value, number_of(entry, "standard_error"))
    if subject.is_current(entry):
        return said
    return joined([said, tag("span", f" (epoch {entry['epoch']})", class_="bad-text")])


def _apart(subjects: Sequence[Subject]) -> Iterator[str]:
    """Why numbers of these runs are not to be held against each other."""
    test = {subject.fingerprint.get("test data", subject.name) for subject in subjects}
    if len(test) > 1:
        names = ", ".join(dict.fromkeys(subject.data_name for subject in subjects))
        yield (
            f"These runs are of different test data ({names}): their numbers are not to be held "
            "against each other."
        )
    measures: dict[str, None] = {}
    for subject in subjects:
        entry = subject.entries.get("log_evidence")
        if entry is not None and isinstance(entry.get("measure"), str):
            measures[entry["measure"]] = None
    if len(measures) > 1:
        yield (
            f"Their nats are of different measures ({'; '.join(measures)}), and differ by more "
            "than the models do."
        )
    implicit = [subject.name for subject in subjects if not subject.recipe.explicit]
    if implicit and len(implicit) < len(subjects):
        yield f"Without a likelihood, and so without nats: {', '.join(implicit)}."
    if len(test) == 1:
        folders = " ".join([str(subject.folder) for subject in subjects])
        yield f"On one footing, with errors, they are judged by `ppl-gen evaluate {folders}`."


def _configuration(subjects: Sequence[Subject]) -> Html:
    """What each run was asked for, and the command that asks for it again."""
    said = []
    for subject in subjects:
        said += [
            *_heading(subject, subjects),
            tag("pre", commands.fitting(subject.run), class_="command"),
            *_own_code(subject),
        ]
    options: dict[str, None] = {}
    for subject in subjects:
        options.update(dict.fromkeys(subject.run.config.values))
    differing = []
    alike = []
    usual = []
    for option in options:
        values = [_value(subject, option) for subject in subjects]
        row = _Row([option, *values])
        if all(map(partial(_is_usual, option), subjects)):
            usual.append(row)
        elif len(set(values)) > 1:
            differing.append(row)
        else:
            alike.append(row)
    header = ["option", *[subject.name for subject in subjects]]
    if differing:
        said.append(_table("Options that differ", header, differing))
    if alike:
        said.append(_table("Options that are not the usual ones", header, alike))
    if usual:
        summary = tag("summary", f"{len(usual)} options more, as they are usually")
        said.append(tag("details", summary, _table("Usual options", header, usual)))
    return joined(said)


def _value(subject: Subject, option: str) -> str:
    if option not in subject.run.config:
        return _NONE
    return _spelled_value(subject.run.config.values[option])


def _is_usual(option: str, subject: Subject) -> bool:
    """Whether a run has not this option, or its usual value."""
    config = subject.run.config
    if option not in config:
        return True
    recipe = subject.recipe
    usual = {known.name: known.default for known in recipe.options}
    usual |= {"lr": recipe.learning_rate, "schedule": recipe.schedule}
    return bool(config.values[option] == usual[option])


def _spelled_value(value: object) -> str:
    if value is None:
        return _NONE
    return str(value)


def _own_code(subject: Subject) -> list[Html]:
    """The user's own files that a run names."""
    sources = subject.run.config.sources
    if not sources:
        return []
    names = ", ".join([f"{name} ({checksum})" for name, checksum in sources.items()])
    return [tag("p", f"With code of the user's own, by option and checksum of its file: {names}.")]


def _curves(subjects: Sequence[Subject]) -> Html:
    """The bound and its terms, an error, or the losses of both players."""
    shown = []
    for subject in subjects:
        parts = [*_heading(subject, subjects)]
        picture = pictures.curves(subject)
        if picture is None:
            parts.append(tag("p", "No epoch was measured.", class_="soft"))
        else:
            parts += [picture.figure(), _last_epoch(subject), *_not_held_out(subject)]
        shown.append(tag("div", *parts))
    return _beside(shown)


def _last_epoch(subject: Subject) -> Html:
    """What was measured in the last epoch."""
    last = subject.records[-1]
    rows = []
    for name, value in last.metrics.items():
        rows.append(_Row([name.replace("_", " "), f"{value:.5g}"]))
    rows.append(_Row(["data per second", f"{last.data / max(last.seconds, 1e-9):,.0f}"]))
    table = _table(f"Epoch {last.epoch}, averages over its steps", ["metric", "value"], rows)
    return tag("details", tag("summary", f"Numbers of epoch {last.epoch}"), table)


def _not_held_out(subject: Subject) -> list[Html]:
    """What to ask for where no data were held out."""
    is_asked = "validation" in subject.run.config
    if not is_asked or subject.run.config.validation is not None:
        return []
    words = "reconstruction and KL, the two terms of the bound, are"
    if subject.recipe.autoencodes:
        words = "the error is"
    return [
        tag(
            "p",
            f"No data were held out: {words} measured on training and held-out data by ",
            tag("code", f"{commands.fitting(subject.run)} --validation 0.1 --overwrite"),
            class_="soft",
        )
    ]


def _samples(subjects: Sequence[Subject]) -> Html:
    return _shown(subjects, _samples_of)


def _samples_of(subject: Subject) -> Iterator[Html]:
    if subject.recipe.translates:
        yield tag("p", "It translates, and draws no data by itself.", class_="soft")
        return
    yield from _figures(pictures.sampled(subject), commands.sampling(subject.folder))


def _reconstructions(subjects: Sequence[Subject]) -> Html:
    return _shown(subjects, _reconstructions_of)


def _reconstructions_of(subject: Subject) -> Iterator[Html]:
    recipe = subject.recipe
    if not (recipe.explicit or recipe.reconstructs or recipe.translates):
        yield tag("p", "It has no guide, and reconstructs nothing.", class_="soft")
        return
    command = commands.reconstructing(subject.folder)
    if recipe.translates:
        command = commands.resuming(subject.run)
    yield from _figures(pictures.reconstructed(subject), command)


def _latents(subjects: Sequence[Subject]) -> Html:
    return _shown(subjects, _latents_of)


def _latents_of(subject: Subject) -> Iterator[Html]:
    recipe = subject.recipe
    if not (recipe.explicit or recipe.reconstructs):
        yield tag("p", "It has no guide, which would say where a datum lies.", class_="soft")
        return
    entry = subject.entries.get("collapse")
    if entry is not None:
        count = entry.get("latents")
        dead = entry.get("dead")
        if isinstance(count, int) and isinstance(dead, int):
            yield tag("p", f"{count - dead} of {count} latents vary with the data.")
    drawn = list(pictures.of_entries(subject, subject.entries, ("collapse",)))
    drawn += list(pictures.of_entries(subject, subject.looks, _LOOKS))
    ask = commands.exploring(subject.folder, "latents")
    if recipe.explicit and not recipe.exact and entry is None:
        ask = commands.evaluating(subject.folder, "collapse")
    yield from _figures(drawn, ask)


def _evidence(subjects: Sequence[Subject]) -> Html:
    """Every number in nats, and those that a guide gives."""
    said: list[Html] = []
    rows = []
    for subject in subjects:
        found = numbers.evidence(subject)
        rows += [_row(each) for each in found]
        if not found:
            said.append(_no_evidence(subject))
    if rows:
        header = ["quantity", "value ± error", "data", "epoch"]
        said.insert(0, _table("Nats per datum, unless said otherwise", header, rows))
        said.insert(
            1,
            tag(
                "p",
                "± is the standard error: of nats, how far the same command with another seed "
                "would move the number; of squared errors and shares, how far other test data "
                "would.",
                class_="soft",
            ),
        )
    drawn = []
    for subject in subjects:
        drawn += list(pictures.of_entries(subject, subject.entries, ("ais", "bdmc", "gaps")))
    return joined([*said, _beside_each_other(drawn)])


def _no_evidence(subject: Subject) -> Html:
    """What gives a run a number in nats."""
    said = f"{subject.name}: not evaluated yet; that is "
    command = commands.evaluating(subject.folder)
    if subject.recipe.translates:
        return tag("p", f"{subject.name}: it translates, and has no likelihood.", class_="soft")
    if not subject.recipe.explicit:
        said = (
            f"{subject.name}: no likelihood, and so no evidence; under a little noise it has one: "
        )
        command = commands.evaluating(subject.folder, "noise", {"epsilon": 0.1})
    return tag("p", said, tag("code", command), class_="soft")


def _moments(subjects: Sequence[Subject]) -> Html:
    """Moments of draws and their distances from test data."""
    said: list[Html] = []
    kinds = []
    rows = []
    for subject in subjects:
        of_moments = list(_kinds(subject))
        found = numbers.distances(subject)
        kinds += of_moments
        rows += [_distance(each) for each in found]
        if "level" in subject.run.config:  # of lines of text: characters or words
            words = f"{subject.name}: lines of text have no moments; its evidence judges it."
            said.append(tag("p", words, class_="soft"))
        elif not of_moments and not found:
            command = commands.evaluating(subject.folder, "moments") + " --two-sample"
            if subject.recipe.translates:
                command = commands.evaluating(subject.folder)
            said.append(
                tag("p", f"{subject.name}: not compared yet; that is ", tag("code", command))
            )
    if kinds:
        header = ["moments", "compared", "off", "farthest", "draws", "data", "z", "p"]
        said.append(_table("Moments of draws and of test data", header, kinds))
    if rows:
        header = ["statistic", "value ± error", "95 % interval", "p"]
        said.append(_table("Distances of draws from test data", header, rows))
    drawn = []
    asked = ("moments", "two_sample", "codes_read_as", "a_to_b", "b_to_a")
    for subject in subjects:
        drawn += list(pictures.of_entries(subject, subject.entries, asked))
    return joined([*said, _beside_each_other(drawn)])


def _kinds(subject: Subject) -> Iterator[_Row]:
    """A row for each kind of moment; one for the farthest where a file has no kinds."""
    for quantity, title in (("moments", ""), ("a_to_b", "a to b: "), ("b_to_a", "b to a: ")):
        entry = subject.entries.get(quantity)
        if entry is None:
            continue
        options = entry.get("options")
        command = commands.evaluating(subject.folder, "moments", options)
        found = entry if quantity == "moments" else entry.get("moments", {})
        kinds = found.get("kinds")
        if not isinstance(kinds, dict):
            kinds = {"all": {**found, **(found.get("worst") or {})}}
        for name, row in kinds.items():
            if not isinstance(row, dict) or number_of(row, "z") is None:
                continue
            p = number_of(row, "p")
            if p is None:
                p = number_of(row, "p_value")
            values = [
                f"{title}{name}",
                _plain(row, "compared"),
                _plain(row, "off"),
                str(row.get("farthest", row.get("name", _NONE))),
                _plain(row, "sample"),
                _plain(row, "data"),
                f"{number_of(row, 'z') or 0.0:+.1f}".replace("-", "−"),
                _p(p),
            ]
            yield _Row(values, command, subject.is_current(entry))


def _mcmc(subjects: Sequence[Subject]) -> Html:
    return _shown(subjects, _mcmc_of)


def _mcmc_of(subject: Subject) -> Iterator[Html]:
    if not subject.recipe.explicit or subject.recipe.exact:
        yield tag("p", "It has no guide that MCMC could judge.", class_="soft")
        return
    found = subject.comparison
    if found is None:
        yield from _figures([], commands.comparing(subject.folder))
        return
    for _, sentence in found["findings"]:
        yield tag("p", worded(sentence))
    entry = {"epoch": subject.epoch, **found}
    command = commands.comparing(subject.folder, found.get("options"))
    rows = []
    for name, words in (("r_hat_largest", "largest R̂"), ("ess_smallest", "smallest ESS")):
        value = number_of(found, name)
        if value is not None:
            rows.append(_Row([words, f"{value:.5g}"], command, subject.is_current(entry)))
    yield _table("Chains", ["", "value"], rows)
    yield from _figures(pictures.of_comparison(subject), command)


def _warnings(subjects: Sequence[Subject]) -> Html:
    """What speaks against the results, and what could not be looked at."""
    listed = []
    said = []
    for subject in subjects:
        for finding in warnings(subject):
            name = ""
            if len(subjects) > 1:
                name = f"{subject.name}: "
            sentence = worded(finding.sentence)
            listed.append(tag("li", name, tag("strong", finding.tag), ". ", sentence))
        if subject.unread:
            said.append(
                tag(
                    "p",
                    f"{subject.name}: its data could not be looked at, so whether they are those "
                    f"that it was fitted to is not known ({subject.unread})",
                    class_="soft",
                )
            )
    if listed:
        return joined([tag("ul", *listed), *said])
    return joined([tag("p", "None."), *said])


def _files(subjects: Sequence[Subject]) -> Html:
    """All that evaluation.json holds, to the last digit."""
    said = []
    for subject in subjects:
        if not subject.entries:
            continue
        text = json.dumps(subject.entries, indent=1, ensure_ascii=False)
        summary = tag("summary", f"evaluation.json of {subject.name}, to the last digit")
        said.append(tag("details", summary, tag("pre", text, tabindex=0)))
    if not said:
        return tag("p", "Nothing was evaluated.", class_="soft")
    return joined(said)


SECTIONS = (
    Section("verdict", "Verdict", _verdict),
    Section("runs", "Runs", _runs),
    Section("configuration", "Configuration", _configuration),
    Section("curves", "Curves", _curves),
    Section("samples", "Samples", _samples),
    Section("reconstructions", "Reconstructions", _reconstructions),
    Section("latents", "Latents", _latents),
    Section("evidence", "Evidence", _evidence),
    Section("moments", "Moments and distances", _moments),
    Section("mcmc", "Against MCMC", _mcmc),
    Section("warnings", "Warnings", _warnings),
    Section("files", "All numbers", _files),
)


def _beside(parts: Iterable[Html]) -> Html:
    """Parts beside each other, or below each other where there is no room."""
    return tag("div", *parts, class_="runs")


def _shown(subjects: Sequence[Subject], content: Callable[[Subject], Iterator[Html]]) -> Html:
    """The same of each run, beside each other."""
    parts = []
    for subject in subjects:
        parts.append(tag("div", *_heading(subject, subjects), *content(subject)))
    return _beside(parts)


def _heading(subject: Subject, subjects: Sequence[Subject]) -> list[Html]:
    """The name of a run, where there are several."""
    if len(subjects) < 2:
        return []
    return [tag("h3", subject.name)]


def _figures(found: Sequence[Picture], command: str) -> Iterator[Html]:
    """Pictures, or what draws them where there are none."""
    if found:
        yield _beside_each_other(found)
    else:
        yield tag("p", "Not there yet; made by ", tag("code", command), class_="soft")


def _beside_each_other(found: Iterable[Picture]) -> Html:
    return tag("div", *[picture.figure() for picture in found], class_="figures")


def _row(found: Number) -> _Row:
    values = [found.name, spelled(found.value, found.error), found.data or _NONE, str(found.epoch)]
    return _Row(values, found.command, found.is_current)


def _distance(found: Number) -> _Row:
    interval = _NONE
    if found.interval is not None:
        low, high = found.interval
        interval = f"{spelled(low)} to {spelled(high)}"
    values = [found.name, spelled(found.value, found.error), interval, _p(found.p_value)]
    return _Row(values, found.command, found.is_current)


def _plain(row: dict[str, object], name: str) -> str:
    value = number_of(row, name)
    if value is None:
        return _NONE
    return spelled(value)


def _p(value: float | None) -> str:
    if value is None:
        return _NONE
    return f"{value:.3f}"


def _table(caption: str, header: Sequence[str], rows: Sequence[_Row]) -> Html:
    """A table that scrolls by itself where it is wide; above rows of one command stands that."""
    body = []
    former = None
    for row in rows:
        made = (row.command, row.is_current)
        if row.command and made != former:
            body.append(_made(row, len(header)))
        former = made
        body.append(cells("td", row.values))
    table = tag(
        "table",
        tag("caption", caption),
        tag("thead", cells("th", header)),
        tag("tbody", *body),
    )
    return tag("div", table, class_="scroll", tabindex=0, role="region", aria_label=caption)


def _made(row: _Row, columns: int) -> Html:
    """What made the rows that follow."""
    remark = Html()
    if not row.is_current:
        remark = tag("span", "of other weights than now: ", class_="bad-text")
    command = tag("code", row.command)
    heading = tag("th", remark, command, colspan=columns, scope="rowgroup")
    return tag("tr", heading, class_="group")
