"""The tables' statistics, records and people."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hyperdreambooth.bench.tables import arms as A
from hyperdreambooth.bench.tables import comparisons as C
from hyperdreambooth.bench.tables import costs
from hyperdreambooth.bench.tables import tuning as T
from hyperdreambooth.bench.tables.__main__ import WHOLE
from hyperdreambooth.bench.tables.overview import overview
from hyperdreambooth.bench.tables.paper import CLAIMS_1
from hyperdreambooth.bench.tables.parameters import ParameterReader, parameter_reader
from hyperdreambooth.bench.tables.records import Records
from hyperdreambooth.bench.tables.report import COLUMNS, Report, results_mark
from hyperdreambooth.bench.tables.sheets import exemplars, sheets, shown_rows, undrawn
from hyperdreambooth.bench.tables.statistics import common, order, relation, share
from hyperdreambooth.bench.tables.world import PARAMETERS, VALIDATION, Subject, cartoon, odd_picture, truth
from hyperdreambooth.faceworld.renderer.world import identity

ROOT = Path(__file__).resolve().parents[2]
PEOPLE, TUNED = ROOT / "faceworld" / "people", ROOT / "bench" / "results" / "tuning"


def test_no_two_rows_are_the_same_thing():
    """Two rows with equal settings would be measured twice and called by two names."""
    settings = [json.dumps(arm.settings) for arm in A.all_arms().values()]
    assert len(set(settings)) == len(settings)
    for arms, _ in A.GROUPS:
        assert len({arm.name for arm in arms}) == len(arms)
    names = [arm.name for arms, _ in A.GROUPS for arm in arms]
    assert all(A.all_arms()[arm.name] == arm for arms, _ in A.GROUPS for arm in arms), names


def test_the_people_of_the_tables_begin_with_the_committed_test_people():
    for number in (0, 17, 49):
        subject = Subject(number)
        handed_in = (subject.references()[0] * 255).round().to(torch.uint8).numpy()
        assert np.array_equal(handed_in, np.asarray(Image.open(PEOPLE / f"{number:02d}_reference.png").convert("RGB")))
        first = (subject.others()[0].movedim(0, -1) * 255).round().to(torch.uint8).numpy()
        assert np.array_equal(first, np.asarray(Image.open(PEOPLE / f"{number:02d}_photo1.png").convert("RGB")))


def test_what_is_handed_in_is_never_what_is_compared():
    subject = Subject(3)
    given, compared = subject.references(count=5).movedim(-1, 1), subject.others()
    assert given.shape == (5, 3, 128, 128)
    assert not any(torch.equal(a, b) for a in given for b in compared)


@pytest.mark.parametrize("kind", A.ODD)
def test_odd_pictures_differ_from_ordinary_ones_and_repeat(kind):
    assert np.array_equal(odd_picture(1, kind), odd_picture(1, kind))
    assert np.abs(odd_picture(1, kind).astype(int) - (Subject(1).references()[0].numpy() * 255)).mean() > 5


def test_odd_pictures_have_names():
    with pytest.raises(ValueError, match="no odd picture of the kind 'sepia'"):
        odd_picture(1, "sepia")


def test_a_cartoon_is_out_of_range():
    drawn, ordinary = truth(cartoon(identity(19, 0))), np.stack([truth(identity(19, i)) for i in range(200)])
    beyond = (drawn > ordinary.max(0)) | (drawn < ordinary.min(0))
    assert {"eye_height", "jaw", "chin", "nose_length"} <= {n for n, b in zip(PARAMETERS, beyond, strict=True) if b}


def test_a_reader_that_is_right_has_no_error_and_a_guess_of_the_average_has_one():
    people, reader = [identity(13, i) for i in range(300)], ParameterReader()
    truths = torch.from_numpy(np.stack([truth(p) for p in people])).float()
    reader.center, reader.spread, reader.explained = truths.mean(0), truths.std(0), torch.ones(len(PARAMETERS))
    picture = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    last = reader.net[-1]
    torch.nn.init.zeros_(last.weight)
    with torch.no_grad():
        last.bias.copy_(reader.standardised(people[7]))
    assert reader.error(picture, people[7]) == 0
    torch.nn.init.zeros_(last.bias)
    assert np.mean([reader.error(picture, p) ** 2 for p in people]) ** 0.5 == pytest.approx(1.0, abs=0.05)


def test_the_committed_reader_reads_people_whom_it_has_not_seen():
    reader, who = parameter_reader(), range(40)
    photos_of = [Subject(i, VALIDATION).references().movedim(-1, 1) for i in who]
    own = [reader.error(photo, identity(VALIDATION, i)) for photo, i in zip(photos_of, who, strict=True)]
    others = [reader.error(photo, identity(VALIDATION, i + 1)) for photo, i in zip(photos_of, who, strict=True)]
    assert len(reader.readable()) >= 8 and np.mean(own) < 0.6 < 1.0 < np.mean(others)


def test_share_is_none_at_the_floor_and_all_at_the_ceiling():
    rng = np.random.default_rng(0)
    floor, ceiling = rng.normal(0.1, 0.1, 40), rng.normal(0.9, 0.1, 40)
    assert share(floor, floor, ceiling).mean == 0 and share(ceiling, floor, ceiling).mean == 1
    half = share((floor + ceiling) / 2, floor, ceiling)
    assert half.mean == pytest.approx(0.5) and half.low == pytest.approx(0.5) and half.high == pytest.approx(0.5)


def test_relations_are_paired():
    """A small difference that everybody shows counts, a large one that comes and goes does not."""
    rng = np.random.default_rng(0)
    people = rng.normal(0.5, 0.3, 50)
    assert relation(people + 0.01 + rng.normal(0, 0.005, 50), people) == ">"
    assert relation(people, people + 0.01 + rng.normal(0, 0.005, 50)) == "<"
    assert relation(people + 0.01 + rng.normal(0, 0.5, 50), people) == "≈"


def test_order_names_the_best_first():
    scores = {"a": np.full(5, 0.2), "b": np.full(5, 0.4), "c": np.full(5, 0.3)}
    assert order(scores) == "b (0.400) > c (0.300) > a (0.200)"
    assert order(scores, smaller_is_better=True) == "a (0.200) > c (0.300) > b (0.400)"


def test_only_people_whom_all_rows_have_are_compared():
    assert common({"a": {0: {}, 1: {}, 2: {}}, "b": {1: {}, 2: {}, 5: {}}}) == [1, 2]
    assert common({}) == []


def test_another_embedded_hypernet_voids_only_what_it_has_a_part_in(tmp_path):
    def kept(key):
        return Records(tmp_path / "records", tmp_path / "results", key)

    old, picture = kept({"checkpoint_sha256": "a", "hypernet_sha256": "b"}), torch.zeros(1, 3, 8, 8)
    without, with_it = [A.FROM_ZERO, A.DREAMBOOTH, A.CONTROLS[0], A.TRAINED[0]], [A.FULL, A.PREDICTED, *A.CONTROLS[1:]]
    for arm in [*without, *with_it]:
        old.store(arm, 0, {"identity": 0.5}, picture)
    retrained = kept({"checkpoint_sha256": "a", "hypernet_sha256": "c"})
    assert [retrained.load(arm, 0) is not None for arm in without] == [True] * len(without)
    assert [retrained.load(arm, 0) for arm in with_it] == [None] * len(with_it)
    assert kept({"checkpoint_sha256": "c", "hypernet_sha256": "b"}).load(A.FROM_ZERO, 0) is None


def test_records_are_kept_committed_and_void_when_what_they_depend_on_changes(tmp_path):
    records = Records(tmp_path / "records", tmp_path / "results", {"weights": "abc"})
    strip = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert records.load(A.FULL, 3) is None
    records.store(A.FULL, 3, {"identity": 0.8765432}, strip)
    assert records.load(A.FULL, 3) == {"identity": 0.8765}  # as it will be committed
    assert records.strip(A.FULL, 3).size == (16, 8)
    records.commit(A.FULL)
    elsewhere = Records(tmp_path / "fresh", tmp_path / "results", {"weights": "abc"})
    assert elsewhere.everybody(A.FULL) == {3: {"identity": 0.8765}}
    assert elsewhere.load(A.FULL, 3) == {"identity": 0.8765} and elsewhere.load(A.PREDICTED, 3) is None
    assert records.hardware(A.FULL) == elsewhere.hardware(A.FULL) != []
    elsewhere.commit(A.FULL)  # nothing measured here: the machine of the records stays
    assert elsewhere.hardware(A.FULL) == records.hardware(A.FULL)
    other = Records(tmp_path / "records", tmp_path / "results", {"weights": "other"})
    assert other.load(A.FULL, 3) is None and other.everybody(A.FULL) == {}
    assert records.load(replace(A.FULL, steps=41), 3) is None and records.load(replace(A.FULL, label="renamed"), 3)


def test_a_sheet_wants_todays_pictures_of_every_row(tmp_path):
    picture = torch.zeros(10, 3, 8, 8)
    here, elsewhere = (Records(tmp_path / name, tmp_path / "results", {"weights": "a"}) for name in ("here", "there"))
    rows = (A.CONTROLS[0], A.FULL)
    for arm in rows:
        for number in range(3):
            elsewhere.store(arm, number, {"identity": 0.5 + (number == 1)}, picture)
        elsewhere.commit(arm)
    who = exemplars(shown_rows(here))
    assert who["best"] == 1 and {who["median"], who["worst"]} == {0, 2}
    assert undrawn(elsewhere) == [] and len(undrawn(here)) == 6
    (tmp_path / "best.jpg").write_text("of other weights")
    assert sheets(here, tmp_path) == {} and not (tmp_path / "best.jpg").is_file()
    for arm, number in undrawn(here):
        here.store_strip(arm, number, picture)
    assert here.load(A.FULL, 1) == {"identity": 1.5} and undrawn(here) == []
    assert set(sheets(here, tmp_path)) == {"best", "median", "worst"}
    for arm in A.OUT_OF_WORLD:
        here.store(arm, who["median"], {"identity": 0.4}, picture)
    drawn = sheets(here, tmp_path)
    assert set(drawn) == {"best", "median", "worst", "odd"}
    assert Image.open(drawn["odd"]).height == len(A.ODD) * Image.open(drawn["best"]).height  # two rows for each kind
    stale = Records(tmp_path / "here", tmp_path / "results", {"weights": "b"})
    assert stale.strip(A.FULL, 1) is None


def test_an_outdated_record_does_not_hide_the_committed_one(tmp_path):
    now, strip = Records(tmp_path / "records", tmp_path / "results", {"weights": "new"}), torch.zeros(1, 3, 8, 8)
    now.store(A.FULL, 3, {"identity": 0.5}, strip)
    now.commit(A.FULL)
    Records(tmp_path / "records", tmp_path / "nowhere", {"weights": "old"}).store(A.FULL, 3, {"identity": 0.1}, strip)
    assert now.load(A.FULL, 3) == {"identity": 0.5}
    now.commit(A.FULL)
    assert now.everybody(A.FULL) == {3: {"identity": 0.5}}


def test_a_row_of_few_people_does_not_take_the_others_down(tmp_path):
    records, strip = Records(tmp_path / "records", tmp_path / "results", {}), torch.zeros(1, 3, 8, 8)
    scores = dict.fromkeys((*COLUMNS, "seconds"), 0.5)
    sizes = {A.CEILING: 100, A.CONTROLS[0]: 100, A.FULL: 100, A.LORA_4: 100, A.DREAMBOOTH: 50, A.LORA_1: 30}
    for arm, people in sizes.items():
        for number in range(people):
            value = {A.CEILING.name: 0.9, A.CONTROLS[0].name: 0.1}.get(arm.name, 0.5) + number / 1000
            records.store(arm, number, scores | {"identity": value, "of_edits": value}, strip)
    rows = [A.FULL, A.LORA_4, A.DREAMBOOTH, A.LORA_1]
    table = Report(records, tmp_path).table(rows)
    assert "50 people (**not finished**; not measured yet: LoRA-DreamBooth, rank 1).\n" in table
    assert f"| {A.DREAMBOOTH.label} |" in table and f"| {A.LORA_1.label} |" not in table
    of_many = Report(records, tmp_path).table(rows, wanted=100)  # those of fifty are the stragglers there
    assert "\n100 people (" in of_many
    assert f"| {A.LORA_4.label} |" in of_many and f"| {A.DREAMBOOTH.label} |" not in of_many
    assert Report(records, tmp_path).table(A.HARDER) == "*Not measured yet.*\n"


def test_the_overview_wants_two_rows_and_the_ceiling_and_shows_costs_where_there_are_some(tmp_path):
    people = {i: {"identity": 0.8 + 0.01 * i, "of_edits": 0.7, "prompt": 0.9} for i in range(3)}
    rows = {arm.name: people for arm in (A.FULL, A.LORA_1)}
    assert overview(rows, {}, tmp_path) is None  # between what?
    assert overview({A.FULL.name: people, A.CEILING.name: people}, {}, tmp_path) is None
    rows |= {A.CEILING.name: people}
    without = Image.open(overview(rows, {}, tmp_path)).size
    assert Image.open(overview(rows, {A.FULL.name: {"seconds": 5.0, "bytes": 1000}}, tmp_path)).width > without[0]


def test_a_setting_is_chosen_by_likeness_among_those_that_obey():
    scores = {"lora_1_40_0.01": (0.7, 0.85), "lora_1_40_0.03": (0.8, 0.83), "lora_1_40_0.06": (0.9, 0.6)}
    rows = {"plain": {0: {"prompt": 0.86}, 1: {"prompt": 0.87}}}
    for name, (likeness, prompt) in scores.items():
        rows[name] = {i: {"identity": likeness, "of_edits": likeness / 2, "prompt": prompt} for i in range(2)}
    assert T.chosen(rows, "lora_1", [0, 1]) == "lora_1_40_0.03"
    for name, prompt in zip(scores, (0.3, 0.2, 0.5), strict=True):
        rows[name] = {i: people | {"prompt": prompt} for i, people in rows[name].items()}
    assert T.chosen(rows, "lora_1", [0, 1]) == "lora_1_40_0.06"  # nobody obeys: who comes nearest


@pytest.mark.parametrize("name", [*T.GRIDS, *T.SWEEPS])
def test_a_row_uses_what_tuning_chose(name):
    arm = A.all_arms()[name]
    assert (arm.steps, arm.rate) in (T.GRIDS | T.SWEEPS)[name], "not even tried"
    assert T.committed_choice(TUNED, name) == f"{name}_{arm.steps}_{arm.rate:g}"


@pytest.mark.parametrize("name", [*T.GRIDS, *T.SWEEPS])
def test_no_chosen_rate_is_the_end_of_its_grid(name):
    """Else a better one may lie beyond: rates below and above were tried at as many steps."""
    arm = A.all_arms()[name]
    tried = [rate for steps, rate in (T.GRIDS | T.SWEEPS)[name] if steps == arm.steps]
    assert min(tried) < arm.rate < max(tried)


def test_every_row_that_trains_was_tuned_or_takes_the_setting_of_one_that_was():
    names = [arm.name for arms, _ in T.TUNING for arm in arms]
    assert len(set(names)) == len(names)
    for name, arm in A.all_arms().items():
        if arm.steps and arm not in A.HARDER and name not in T.GRIDS | T.SWEEPS:
            taken = A.all_arms()[T.INHERITED[name]]
            assert (arm.steps, arm.rate, arm.rank, arm.space) == (taken.steps, taken.rate, taken.rank, taken.space), (
                name
            )


def test_the_tuning_page_shows_rows_whose_people_are_complete_in_bold_where_chosen(tmp_path, monkeypatch):
    monkeypatch.setattr(T, "PEOPLE", 3)
    records, strip = Records(tmp_path / "records", tmp_path / "results", {}), torch.zeros(1, 3, 8, 8)
    *almost, last = T.settings_of("lora_4")
    for arm in [T.PLAIN, *T.settings_of("lora_1"), *almost, last]:
        for number in range(2 if arm is last else 3):
            likeness = 0.1 if arm is T.PLAIN else 0.5 + arm.rate
            records.store(arm, number, {"identity": likeness, "of_edits": likeness, "prompt": 0.85}, strip)
    T.write_tuning(records, tmp_path / "tuning.md")
    page = (tmp_path / "tuning.md").read_text()
    assert "| plain model |  |  | 0.100" in page and "**LoRA-DreamBooth, rank 1** | 40 | 0.06 | 0.560" in page
    assert page.count("rank 1") == 3 and "rank 4" not in page


def test_the_papers_order_holds_does_not_hold_or_cannot_be_told():
    def rows(*likeness):
        rng = np.random.default_rng(0)
        scores = [mean + rng.normal(0, 0.01, 30) for mean in likeness]
        names = ("hyperdreambooth", "dreambooth", "textual_inversion")
        return {
            n: dict(enumerate({"identity": v, "of_edits": v} for v in s)) for n, s in zip(names, scores, strict=True)
        }

    assert "order in likeness holds here (30 people)" in C.verdict(rows(0.9, 0.8, 0.5), CLAIMS_1)
    lost = C.verdict(rows(0.8, 0.9, 0.5), CLAIMS_1)
    assert "does not hold" in lost and "DreamBooth, 160 steps: no, the opposite, -0." in lost
    assert "Textual Inversion: yes, +0." in lost
    assert "cannot be told in full" in C.verdict(rows(0.9, 0.9, 0.5), CLAIMS_1)
    assert C.verdict({"hyperdreambooth": {}}, CLAIMS_1) == ""


def test_differences_are_of_people_whom_both_rows_have_and_side_by_side_of_all():
    def scores(likeness):
        return {"identity": likeness, "of_edits": likeness / 2, "prompt": 0.9, "parameters": 1 - likeness}

    rows = {A.FULL.name: {i: scores(0.8) for i in range(5)}, A.FROM_ZERO.name: {i: scores(0.6) for i in range(3, 9)}}
    table = C.differences(rows, [(A.FULL, A.FROM_ZERO), (A.FULL, A.LORA_4)])
    assert "less no HyperNet: the same from zero | +0.150 (+0.150 to +0.150) | +0.200 (" in table
    assert table.count("| 2 |") == 1 and "LoRA" not in table and "-0.200 (-0.200 to -0.200) | 2 |" in table
    many = rows | {
        A.LORA_4.name: dict.fromkeys(range(60)),
        A.PRIOR.name: dict.fromkeys(range(37)),
        A.LORA_1.name: dict.fromkeys(range(90)),
    }
    pairs = [(A.LORA_1.name, A.LORA_4.name), (A.LORA_1.name, A.PRIOR.name), (A.LORA_1.name, A.FULL.name)]
    assert set(C.measured(many, pairs)) == {pairs[0]}  # 60, 37 and 5 people
    both = C.side_by_side(rows, [A.FULL, A.FROM_ZERO])
    assert "| 2 people | likeness |" in both and "| HyperDreamBooth | 0.600 (0.600 to 0.600) | 0.800 (" in both
    assert C.side_by_side(rows, [A.FULL, A.LORA_4]) == "" == C.differences(rows, [(A.FULL, A.LORA_4)])


def test_findings_stand_before_their_tables_and_those_about_other_results_are_left_out(tmp_path, monkeypatch, capsys):
    records, page = Records(tmp_path / "records", tmp_path / "results", {}), tmp_path / "findings.md"
    monkeypatch.setattr("hyperdreambooth.bench.tables.report.FINDINGS", page)
    scores = dict.fromkeys((*COLUMNS, "seconds"), 0.5)
    records.store(A.FULL, 0, scores, torch.zeros(1, 3, 8, 8))
    head = f"<!-- results {results_mark({A.FULL.name: {0: scores}})} -->"
    page.write_text(f"{head}\n<!-- short -->\n## In short\n<!-- table 1 -->\n* One.\n<!-- table 2 -->\n* Two.\n")
    text = Report(records, tmp_path).write().read_text()
    places = [text.index(each) for each in ("## In short", "## Table 1", "* One.", "## Table 2", "* Two.")]
    assert places == sorted(places) and "<!--" not in text and not capsys.readouterr().out
    records.store(A.FULL, 0, scores | {"identity": 0.6}, torch.zeros(1, 3, 8, 8))
    assert "## In short" not in Report(records, tmp_path).write().read_text()
    assert "findings.md is about other results and left out" in capsys.readouterr().out


def test_a_slice_says_what_it_is_and_judges_nothing(tmp_path):
    records = Records(tmp_path / "records", tmp_path / "results", {})
    for arm, score in ((A.FULL, 0.9), (A.DREAMBOOTH, 0.8), (A.PREDICTED, 0.7)):
        for person in range(3):
            records.store(arm, person, dict.fromkeys((*COLUMNS, "seconds"), score), torch.zeros(1, 3, 8, 8))
    pages = {whole: Report(records, tmp_path, whole).write().read_text() for whole in (True, False)}
    assert "curves.png" in pages[True] and "curves.png" not in pages[False]  # two points are no curve
    assert "This is a slice" in pages[False] and "order in likeness" not in pages[False]
    assert "This is a slice" not in pages[True] and "order in likeness holds here (3 people)" in pages[True]


def test_the_committed_results_are_whole_and_the_findings_are_about_them():
    report = Report(WHOLE.records(), ROOT / "nowhere")
    lacking = {
        arm.name: f"{len(report.measured.get(arm.name, ()))} of {people}"
        for arms, people in A.GROUPS
        for arm in arms
        if not set(range(people)) <= set(report.measured.get(arm.name, ()))
    }
    assert not lacking
    assert set(report._findings()) == {"short", "table 1", "table 2", "table 3", "table 4"}


def test_costs_of_other_weights_do_not_count(tmp_path):
    records, arm = Records(tmp_path / "records", tmp_path, {"weights": "today's"}), A.FULL
    rows = {arm.name: {"key": records.key_of(arm), "hardware": "here"}, A.PREDICTED.name: {"seconds": 1.0}}
    costs.costs_file(records).write_text(json.dumps({"rows": rows}))
    assert (
        costs.has_cost(records, arm)
        and not costs.has_cost(records, A.PREDICTED)
        and costs.costs_hardware(records) == "here"
    )
    assert not costs.has_cost(Records(tmp_path / "records", tmp_path, {"weights": "other"}), arm)


def test_what_costs_were_measured_is_kept_when_the_run_is_stopped(tmp_path, monkeypatch):
    def cost(bench, arm):
        if arm is A.LORA_1:
            raise KeyboardInterrupt
        return {"seconds": 1.0, "bytes": 1000}

    monkeypatch.setattr(costs, "_cost", cost)
    records = Records(tmp_path / "records", tmp_path / "results", {})
    with pytest.raises(KeyboardInterrupt):
        costs.measure_costs(None, records, [A.FULL, A.LORA_1])
    assert costs.has_cost(records, A.FULL) and not costs.has_cost(records, A.LORA_1)
