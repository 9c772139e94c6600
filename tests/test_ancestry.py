"""What a model has seen, its parents' pictures included, and who may therefore judge it."""

import json
from dataclasses import replace

import pytest

from bcnet import Classifier, workflows
from bcnet.cardfile import read_card
from bcnet.data.manifest import read_manifest
from bcnet.data.simulate import simulate
from bcnet.data.split import write_split
from bcnet.modelfile import read_model, write_model
from bcnet.workflows.ancestry import (
    ANCESTORS,
    SeenInTraining,
    describe_parent,
    find_parts,
    require_unseen,
)
from bcnet.workflows.samples import decode_table


@pytest.fixture(scope="module")
def card(model_file):
    return read_card(model_file)


@pytest.fixture(scope="module")
def table(simulated, quick_config):
    """The pictures that `model_file` was made with, with hashes and their parts."""
    return decode_table(workflows.divide(simulated.table, quick_config), (48, 48)).table


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """Sixteen patients of another place, whose pictures no model has seen."""
    folder = tmp_path_factory.mktemp("elsewhere") / "others"
    simulate(folder, images_per_patient=1, image_size=32, patients=16, seed=5)
    manifest = read_manifest(folder)
    return replace(manifest, table=manifest.table.assign(dataset="elsewhere"))


@pytest.fixture(scope="module")
def child_file(model_file, elsewhere, quick_config, tmp_path_factory):
    """A model trained elsewhere that started from `model_file`."""
    path = tmp_path_factory.mktemp("models") / "child.keras"
    config = replace(quick_config, epochs=1, test=0.3, validation=0.2)
    workflows.train(elsewhere, path, replace(config, initial_weights=str(model_file)))
    return path


def test_find_parts_knows_pictures_without_their_patients(card, table):
    anonymous = table.assign(patient_id=None, dataset="copies")
    assert find_parts(card, anonymous).tolist() == list(table["split"])


def test_find_parts_knows_patients_by_new_pictures(card, table):
    new = table.assign(hash="0" * 16)
    assert find_parts(card, new).tolist() == list(table["split"])


def test_find_parts_keeps_patients_of_two_data_sets_apart(card, table):
    others = table.assign(hash="0" * 16, dataset="elsewhere")
    assert find_parts(card, others).isna().all()


def test_find_parts_counts_what_an_ancestor_saw_as_training(card, table):
    test = table[table["split"] == "test"]
    heir = json.loads(json.dumps(card))
    heir["samples"][ANCESTORS] = {"pictures": list(test["hash"]), "patients": [], "data": ["x"]}
    assert set(find_parts(heir, test)) == {"train"}


@pytest.mark.parametrize("part", ["train", "validation"])
@pytest.mark.parametrize("unknown", ["hash", "patient_id"])
def test_require_unseen_counts_pictures_and_patients(model_file, table, part, unknown):
    rows = table[table["split"] == part].assign(**{unknown: None})
    told = f"of {len(rows)} pictures that are to judge, .* has seen {len(rows)}"
    with pytest.raises(SeenInTraining, match=told):
        require_unseen(model_file, rows)


def test_require_unseen_lets_the_parents_own_test_patients_judge(model_file, table):
    require_unseen(model_file, table[table["split"] == "test"])


def test_require_unseen_of_nobody_is_content(model_file, table):
    require_unseen(model_file, table[:0])


def test_describe_parent_names_who_trained_and_who_chose(model_file, card, table):
    described = describe_parent(model_file)
    learnt = table[table["split"] != "test"]
    assert described["data"] == ["simulated"]
    assert set(described["pictures"]) == set(learnt["hash"])
    parts = [card["samples"][part]["patients"] for part in ("train", "validation")]
    assert described["patients"] == sorted(parts[0] + parts[1])


def test_describe_parent_hands_on_what_the_parent_inherited(model_file, card, tmp_path):
    seen = {"data": ["first"], "pictures": ["f" * 16], "patients": ["e" * 16]}
    heir = json.loads(json.dumps(card))
    heir["samples"][ANCESTORS] = seen
    write_model(tmp_path / "heir.keras", read_model(model_file), heir)
    described = describe_parent(tmp_path / "heir.keras")
    own = describe_parent(model_file)
    assert described["data"] == ["simulated", "first"]
    for name in ("pictures", "patients"):
        assert described[name] == sorted([*own[name], *seen[name]])


def test_train_writes_into_the_card_what_its_parent_saw(child_file, model_file):
    assert read_card(child_file)["samples"][ANCESTORS] == describe_parent(model_file)


def test_train_refuses_to_be_judged_by_those_its_parent_saw(
    model_file, simulated, table, quick_config, tmp_path
):
    swapped = table["split"].map({"train": "test", "test": "train", "validation": "validation"})
    write_split(simulated.table.assign(split=swapped), tmp_path / "split.csv")
    config = replace(quick_config, initial_weights=str(model_file))
    with pytest.raises(SeenInTraining, match=r"of (\d+) pictures that .* has seen \1,"):
        workflows.train(
            simulated, tmp_path / "new" / "child.keras", config, split=tmp_path / "split.csv"
        )
    assert not (tmp_path / "new").exists()


def test_cross_validate_refuses_to_be_judged_by_those_the_parent_saw(
    model_file, simulated, quick_config
):
    with pytest.raises(SeenInTraining, match="of 80 pictures that are to judge"):
        workflows.cross_validate(simulated, replace(quick_config, initial_weights=str(model_file)))


def test_evaluate_refuses_to_call_the_parents_pictures_a_test(child_file, table, simulated):
    seen = table.assign(split="test")
    with pytest.raises(SeenInTraining, match=r"this is no test: .* 64"):
        workflows.evaluate(Classifier.load(child_file), replace(simulated, table=seen))


def test_evaluate_knows_its_own_test_pictures(child_file, elsewhere):
    result = workflows.evaluate(Classifier.load(child_file), elsewhere)
    card = read_card(child_file)
    assert result["part"] == "test"
    assert result["n_images"] == card["samples"]["test"]["n_images"]
