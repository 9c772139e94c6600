"""The model card: honest words of a card of any age, sound markup, and the check of a file."""

import html.parser
import json
import re

import numpy as np
import pytest
import yaml

from bcnet.cardfile import ModelFileError, locate_model, read_card
from bcnet.classifier import Classifier
from bcnet.cli import main
from bcnet.modelfile import read_model, write_model
from bcnet.workflows import check_model, write_model_card
from bcnet.workflows.card_text import describe_model
from bcnet.workflows.checking import format_check
from bcnet.workflows.document import (
    Code,
    Figure,
    Paragraph,
    Points,
    Table,
    escape_markdown,
    write_html,
    write_markdown,
)
from bcnet.workflows.front_matter import make_front_matter, write_yaml

SECTIONS = [
    "Intended use",
    "Out of scope",
    "Data and patients",
    "Training",
    "Metrics",
    "Calibration",
    "Threshold",
    "What it does not answer",
    "Subgroups",
    "Robustness",
    "Explanations",
    "Limits",
    "Ethical considerations",
    "Licence",
    "How to reproduce",
]


def estimate(value):
    return {"value": value, "low": value - 0.1, "high": value + 0.1}


def make_card():
    """A card of today, with everything in it, small enough to check by eye."""
    measured = {name: estimate(0.8) for name in ("auc", "sensitivity", "specificity")}
    part = {"n_images": 1, "n_malignant": 1, "n_patients": 1}
    return {
        "class_names": ["benign", "malignant"],
        "image_size": [48, 64],
        "resize": "stretched",
        "data": {
            "name": "mine",
            "source": "a clinic",
            "licence": "CC0-1.0",
            "modality": "tissue",
            "negative": "benign",
            "simulated": False,
        },
        "samples": {
            "train": {**part, "pictures": ["aa11"], "patients": ["bb11"]},
            "validation": {**part, "pictures": ["aa22"], "patients": ["bb22"]},
            "test": {**part, "pictures": ["aa33"], "patients": ["bb33"]},
        },
        "calibration": {
            "method": "platt",
            "slope": 1.5,
            "intercept": 0.1,
            "data": "mine, validation",
            "n_images": 1,
            "n_patients": 1,
            "prevalence": 0.25,
        },
        "metrics": {
            "test": {
                "n_images": 1234,
                "n_patients": 56,
                "threshold": 0.5,
                "majority_accuracy": 0.7,
                "patient_majority_accuracy": 0.6,
                "confusion_matrix": [[3, 1], [0, 2]],
                "image": measured,
                "patient": {**measured, "auc": estimate(0.9)},
                "patient_reason": None,
            }
        },
        "threshold": {"value": 0.5, "rule": "a rule", "data": "mine, validation"},
        "abstention": {"reason": "too few patients"},
        "gate": {"reason": "too few pictures"},
        "training": {
            "config": {"model": "cnn", "weights": "/home/anna/w.h5", "initial_weights": None},
            "precision": "float32",
            "best_epoch": 1,
        },
        "versions": {"keras": "3.15.1"},
    }


def write_out(card, **told):
    return write_markdown("Card", describe_model(card, "mine", **told))


def read_section(text, title):
    return text.split(f"## {title}\n")[1].split("\n## ")[0]


@pytest.fixture(scope="module")
def idc(tmp_path_factory):
    """The card of the shipped model, in both formats."""
    folder = tmp_path_factory.mktemp("cards")
    for ending in ("md", "html"):
        write_model_card("idc", folder / f"card.{ending}", licence="MIT")
    return folder


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The shipped model, saved anew."""
    path = tmp_path_factory.mktemp("saved") / "idc.keras"
    Classifier.load("idc").save(path)
    return path


def change(saved, path, name):
    """Copy a model file, all weights of one of its layers halved."""
    model = read_model(saved)
    layer = model.get_layer(name)
    layer.set_weights([weight * 0.5 for weight in layer.get_weights()])
    write_model(path, model, read_card(saved))
    return path


# What the card says


@pytest.mark.parametrize("card", [{}, make_card()], ids=["empty", "full"])
def test_describe_model_has_all_sections_in_order(card):
    assert re.findall(r"^## (.*)$", write_out(card), re.MULTILINE) == SECTIONS


@pytest.mark.parametrize("title", ["Data and patients", "Training", "Calibration", "Threshold"])
def test_describe_model_says_what_is_not_recorded(title):
    assert "not recorded" in read_section(write_out({}), title)


def test_describe_model_of_an_empty_card_claims_no_test():
    assert "no test is recorded" in write_out({})


def test_describe_model_of_an_empty_card_claims_no_separate_patients():
    assert "No patient" not in write_out({})


def test_describe_model_tells_the_test_by_patient_first():
    lead = write_out(make_card()).split("\n\n")[2]
    assert "1,234 pictures of 56 patients" in lead
    assert "AUC was 0.900 [0.800, 1.000]" in lead


def test_describe_model_shows_metrics_with_their_baseline():
    section = read_section(write_out(make_card()), "Metrics")
    assert "| AUC | 0.900 [0.800, 1.000] | 0.800 [0.700, 0.900] |" in section
    assert "| accuracy of always giving the commoner class | 0.600 | 0.700 |" in section


@pytest.mark.parametrize(
    ("data", "chosen"),
    [("mine, validation", "epoch and calibration and threshold"), ("ours", "epoch")],
)
def test_describe_model_tells_what_the_validation_patients_chose(data, chosen):
    card = make_card()
    card["metrics"]["validation"] = card["metrics"]["test"]
    card["calibration"]["data"] = card["threshold"]["data"] = data
    assert f"Validation: patients who chose {chosen}, so" in write_out(card)


def test_describe_model_tells_a_test_picture_that_was_seen():
    card = make_card()
    card["samples"]["test"]["pictures"] = ["aa11", "aa33"]
    text = write_out(card)
    assert "no clean test, for it had seen 1 of the pictures, 0 patients" in text
    assert "Shared by two of the parts train, validation and test: 1 pictures." in text


def test_describe_model_tells_that_unknown_patients_may_be_shared():
    card = make_card()
    for part in card["samples"].values():
        part |= {"n_patients": None, "patients": []}
    assert "of patients that cannot be told" in read_section(write_out(card), "Data and patients")


def test_describe_model_warns_of_simulated_pictures():
    card = make_card()
    card["data"]["simulated"] = True
    assert "says nothing of people" in read_section(write_out(card), "Limits")


def test_describe_model_warns_of_negatives_that_are_no_lesions():
    card = make_card()
    card["data"]["negative"] = "normal tissue"
    assert "its negatives are normal tissue" in read_section(write_out(card), "Out of scope")


def test_describe_model_names_no_folder_of_the_machine():
    text = write_out(make_card())
    assert "anna" not in text
    assert '"weights": "w.h5"' in text


def test_describe_model_names_no_patient_and_no_picture():
    assert not re.search("aa[123]{2}|bb[123]{2}", write_out(make_card()))


def test_describe_model_reproduces_without_a_calibration_that_was_not_there():
    assert '"calibration": null' in write_out(make_card())


def test_describe_model_keeps_a_calibration_of_the_run():
    card = make_card()
    card["training"]["config"]["calibration"] = "platt"
    assert '"calibration": "platt"' in write_out(card)


def test_describe_model_tells_the_licence_it_is_given():
    assert "- Model: MIT\n- Data: CC0-1.0" in write_out(make_card(), licence="MIT")


# Markup


def test_escape_markdown_keeps_words_plain():
    assert escape_markdown("mixed_bfloat16 [0.1, 0.2], H&E") == "mixed_bfloat16 [0.1, 0.2], H&E"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<script>", "&lt;script>"),
        ("a | b", r"a \| b"),
        ("_a_ *b* `c`", r"\_a\_ \*b\* \`c\`"),
        ("[a](http://b)", r"[a\](http://b)"),
        ("&lt;", "&amp;lt;"),
        ("a\n# b", "a # b"),
    ],
)
def test_escape_markdown_disarms(text, expected):
    assert escape_markdown(text) == expected


def test_code_is_fenced_by_more_than_it_holds():
    assert Code("a ```` b").to_markdown() == "`````\na ```` b\n`````"


@pytest.mark.parametrize(
    "block",
    [Paragraph("<b>"), Points(["<b>"]), Table(["<b>"], [["<b>"]]), Code("<b>")],
    ids=lambda block: type(block).__name__,
)
def test_html_of_every_block_is_escaped(block):
    assert "<b>" not in block.to_html()


def test_figure_with_brackets_and_spaces_stays_one_reference(tmp_path):
    figure = Figure(tmp_path / "my card_files" / "a.png", "of [x]")
    assert figure.to_markdown() == r"![of \[x\]](my%20card_files/a.png)"


class _Tags(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.opened, self.pending = set(), []

    def handle_starttag(self, tag, attrs):
        self.opened.add(tag)
        if tag not in ("meta", "img"):
            self.pending.append(tag)

    def handle_endtag(self, tag):
        assert self.pending.pop() == tag


def test_write_html_of_a_hostile_data_set_opens_no_script():
    card = make_card()
    card["data"]["name"] = card["data"]["source"] = "<script>alert(1)</script>"
    tags = _Tags()
    tags.feed(write_html("<script>", describe_model(card, "<script>")))
    assert "script" not in tags.opened
    assert tags.pending == []


# What the Hub reads


@pytest.mark.parametrize("text", ["no", "1e3", "a: b", "# c", 'q"\\', "é 乳 😀", "- x", "{}", ""])
def test_write_yaml_reads_back(text):
    value = {"tags": [text, "b"], "results": [{"name": text, "n": {"value": 0.5}}], "none": []}
    assert yaml.safe_load(write_yaml(value)) == value


def test_write_yaml_drops_what_yaml_does_not_allow():
    assert yaml.safe_load(write_yaml({"a": "x\x00\x7fy\nz"})) == {"a": "xy z"}


def test_make_front_matter_prefers_results_by_patient():
    (entry,) = make_front_matter(make_card(), "mine")["model-index"]
    (result,) = entry["results"]
    assert result["metrics"][0] == {"type": "roc_auc", "name": "AUC, by patient", "value": 0.9}
    assert result["dataset"] == {"name": "mine", "type": "mine", "split": "test"}


def test_make_front_matter_without_a_test_has_no_results():
    assert "model-index" not in make_front_matter({}, "mine")


@pytest.mark.parametrize(
    ("licence", "expected"),
    [
        (None, {"license": "unknown"}),
        ("CC0-1.0", {"license": "cc0-1.0"}),
        ("House Rules 2", {"license": "other", "license_name": "house-rules-2"}),
    ],
)
def test_make_front_matter_names_the_licence_as_the_hub_does(licence, expected):
    front = make_front_matter({}, "mine", licence)
    assert {name: front[name] for name in front if name.startswith("license")} == expected


# Files


def test_write_model_card_begins_with_front_matter(idc):
    _, front, text = (idc / "card.md").read_text(encoding="utf-8").split("---\n", 2)
    assert yaml.safe_load(front)["model-index"][0]["name"] == "idc"
    assert text.startswith("\n# Model card: idc\n")


def test_write_model_card_puts_figures_where_it_refers_to_them(idc):
    text = (idc / "card.md").read_text(encoding="utf-8")
    places = re.findall(r"!\[.*\]\((.*)\)", text)
    names = ("training", "confusion_matrix", "robustness_1")
    assert places == [f"card_files/{name}.png" for name in names]
    assert all((idc / place).is_file() for place in places)


def test_write_model_card_as_html_needs_no_other_file(idc):
    text = (idc / "card.html").read_text(encoding="utf-8")
    assert text.count('src="data:image/png;base64,') == 3
    assert not re.search(r'(src|href)="(?!data:)', text)


@pytest.mark.parametrize("ending", ["md", "html"])
def test_write_model_card_holds_no_hash(idc, ending):
    text = (idc / f"card.{ending}").read_text(encoding="utf-8")
    samples = read_card(locate_model("idc"))["samples"].values()
    assert not any(name in text for part in samples for name in part["patients"])


def test_write_model_card_refuses_another_ending(tmp_path):
    with pytest.raises(ValueError, match=r"must end in \.md or \.html"):
        write_model_card("idc", tmp_path / "card.pdf")


def test_write_model_card_refuses_a_card_that_is_no_object(tmp_path, saved):
    write_model(tmp_path / "list.keras", read_model(saved), [])
    with pytest.raises(ModelFileError, match="not a JSON object"):
        write_model_card(tmp_path / "list.keras", tmp_path / "card.md")


# The check


def test_check_model_of_an_untouched_file_is_the_same(saved):
    result = check_model(saved)
    assert result["same"]
    assert result["weights"]["saved"] == result["weights"]["now"]
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_check_model_of_an_older_file_lacks_saved_weights(saved, tmp_path):
    card = read_card(saved)
    del card["references"]["weights"]
    write_model(tmp_path / "older.keras", read_model(saved), card)
    result = check_model(tmp_path / "older.keras")
    assert result["same"]
    assert result["weights"]["saved"] is None


def test_check_model_finds_changed_weights(saved, tmp_path):
    result = check_model(change(saved, tmp_path / "changed.keras", "logit"))
    assert not result["same"]
    assert format_check(result).endswith("the weights are not those that were saved")


def test_check_model_finds_changed_answers_of_the_same_weights(saved, tmp_path):
    card = read_card(saved)
    card["references"]["probability"][2] = 0.5
    write_model(tmp_path / "other.keras", read_model(saved), card)
    result = check_model(tmp_path / "other.keras")
    lines = format_check(result).splitlines()
    assert lines[3].split() == ["reference", "3", "0.5000000", "0.0000000", "differs"]
    assert lines[-1].startswith("differs with the same weights")


def test_check_model_tells_answers_that_are_not_finite(saved, tmp_path):
    model = read_model(saved)
    model.get_layer("calibration").set_weights([np.array([[np.nan]]), np.array([0.0])])
    write_model(tmp_path / "nan.keras", model, read_card(saved))
    result = check_model(tmp_path / "nan.keras")
    assert not result["same"]
    assert "not finite" in format_check(result)


def test_check_model_sets_versions_side_by_side(saved, tmp_path):
    card = read_card(saved)
    card["versions"] = {"keras": "0.1", "abacus": "2"}
    write_model(tmp_path / "old.keras", read_model(saved), card)
    versions = check_model(tmp_path / "old.keras")["versions"]
    assert versions["keras"]["saved"] == "0.1"
    assert versions["abacus"] == {"saved": "2", "now": None}
    assert versions["numpy"] == {"saved": None, "now": np.__version__}


@pytest.mark.parametrize(("layer", "status"), [(None, 0), ("logit", 1)])
def test_card_check_exits_with_1_on_a_difference(saved, tmp_path, layer, status):
    path = change(saved, tmp_path / "changed.keras", layer) if layer else saved
    assert main(["card", str(path), "--check"]) == status


def test_card_names_the_file_it_wrote(tmp_path, capsys):
    assert main(["card", "idc", "--output", str(tmp_path / "card.md")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'card.md'}\n"


def test_card_refuses_a_licence_for_a_check(capsys):
    assert main(["card", "idc", "--check", "--licence", "MIT"]) == 2
    assert "`--licence` goes with `--output`" in capsys.readouterr().err
