"""Settings: what is right is frozen, what is wrong is told all at once."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from recsys_lib.errors import SettingsError
from recsys_lib.evaluate import metrics, slates
from recsys_lib.settings import MEASURES, Settings, load_settings, read_yaml

CONF = Path(__file__).parents[1] / "conf"


def written(folder: Path, text: str, name: str = "mine.yaml") -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


def faults_of(folder: Path, text: str, overrides: list[str] | None = None) -> list[str]:
    with pytest.raises(SettingsError) as error:
        load_settings(written(folder, text), overrides)
    return error.value.faults


def test_base_yaml_says_every_default_and_nothing_else() -> None:
    assert read_yaml(CONF / "base.yaml") == Settings().model_dump(mode="json")


def test_every_line_of_base_yaml_is_explained() -> None:
    lines = (CONF / "base.yaml").read_text(encoding="utf-8").splitlines()
    keys = [line for line in lines if line.strip() and not line.startswith("#") and "@" not in line]
    assert [line for line in keys if "  # " not in line] == []


def test_local_yaml_is_valid() -> None:
    assert load_settings(CONF / "local.yaml").spark.master == "local[2]"


def test_no_file_means_defaults() -> None:
    assert load_settings() == Settings()


def test_an_empty_file_means_defaults(tmp_path: Path) -> None:
    assert load_settings(written(tmp_path, "")) == Settings()


def test_the_named_file_stands_over_base_and_overrides_over_both(tmp_path: Path) -> None:
    written(tmp_path, "train: {epochs: 3, ranks: 3, negatives: 30}\nrun: {seed: 3}", "base.yaml")
    mine = written(tmp_path, "train: {ranks: 4, negatives: 40}")
    settings = load_settings(mine, ["train.negatives=50"])
    assert (settings.train.epochs, settings.train.ranks, settings.train.negatives) == (3, 4, 50)
    assert settings.run.seed == 3


def test_overrides_are_read_as_yaml() -> None:
    settings = load_settings(
        overrides=["evaluate.ks=[10, 50]", "spark.master=null", "gate.weights.hit@10=1.0"]
    )
    assert settings.evaluate.ks == (10, 50)
    assert settings.spark.master is None
    assert settings.gate.weights == {"hit@10": 1.0}


def test_an_override_may_hold_an_equals_sign() -> None:
    settings = load_settings(overrides=["tracking.uri=sqlite:///a.db?mode=ro"])
    assert settings.tracking.uri == "sqlite:///a.db?mode=ro"


def test_off_is_a_word_and_not_a_boolean(tmp_path: Path) -> None:
    settings = load_settings(written(tmp_path, "clean:\n  off: [no, outlier]\n"))
    assert settings.clean.off == ("no", "outlier")


def test_rates_in_scientific_notation_are_numbers(tmp_path: Path) -> None:
    settings = load_settings(written(tmp_path, "train: {learning_rate: 2e-3}"))
    assert settings.train.learning_rate == pytest.approx(0.002)


def test_settings_are_frozen() -> None:
    settings = Settings()
    with pytest.raises(ValidationError, match="frozen"):
        settings.train.epochs = 5


def test_an_unknown_key_is_answered_with_the_nearest_one(tmp_path: Path) -> None:
    assert faults_of(tmp_path, "train: {epoch: 5}") == [
        "train.epoch: unknown key; did you mean 'epochs'?"
    ]


def test_an_unknown_section_is_answered_with_the_nearest_one(tmp_path: Path) -> None:
    assert faults_of(tmp_path, "trian: {epochs: 5}") == [
        "trian: unknown key; did you mean 'train'?"
    ]


def test_an_unknown_key_like_no_other_lists_the_valid_ones(tmp_path: Path) -> None:
    [fault] = faults_of(tmp_path, "tracking: {zzz: 5}")
    assert fault == "tracking.zzz: unknown key; valid keys: experiment, uri"


def test_every_fault_of_file_and_overrides_is_in_one_error(tmp_path: Path) -> None:
    text = "train: {epoch: 5, ranks: two}\nrun: {out: [a]}\nprune: {final_sparsity: 1.5}"
    faults = faults_of(tmp_path, text, ["seed=3", "modle.heads=2"])
    assert [fault.split(":")[0] for fault in faults] == [
        "--set must be section.key=value, got 'seed=3'",
        "run.out",
        "train.ranks",
        "train.epoch",
        "prune.final_sparsity",
        "modle",
    ]


def test_the_error_names_the_file_and_counts_the_faults(tmp_path: Path) -> None:
    file = written(tmp_path, "train: {ranks: 0, epoch: 1}")
    with pytest.raises(SettingsError, match=r"mine\.yaml: 2 faults\n  - train\.ranks: .*, got 0\n"):
        load_settings(file)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("train: {ranks: two}", "train.ranks: input should be a valid integer"),
        ("train: {ranks: 1.5}", "train.ranks: input should be a valid integer"),
        ("train: {ranks: 0}", "train.ranks: input should be greater than or equal to 1, got 0"),
        ("train: 5", "train: input should be a valid dictionary"),
        ("train: {optimizer: adagrad}", "train.optimizer: input should be 'adam' or 'sgd'"),
        ("run: {progress: maybe}", "run.progress: input should be a valid boolean"),
        ("gate: {weights: {f1@10: much}}", "gate.weights.f1@10: input should be a valid number"),
        ("evaluate: {ks: [ten]}", "evaluate.ks.0: input should be a valid integer"),
        ("- a\n- b", "must hold sections with keys, got list"),
        ("train: {ranks: 2", "is not valid YAML"),
        ("train:\n\tranks: 2", "is not valid YAML"),
    ],
)
def test_a_wrong_file_is_told_in_words(tmp_path: Path, text: str, fault: str) -> None:
    [told] = faults_of(tmp_path, text)
    assert fault in told


@pytest.mark.parametrize(
    ("ks", "weights", "wrong"),
    [
        ("[10, 20]", "{ndcg@5: 1}", "ndcg@5"),
        ("[10]", "{ndgc@10: 1}", "ndgc@10"),
        ("[10]", "{new:mean@10: 1}", "new:mean@10"),
        ("[10]", "{new:novelty@10: 1}", "new:novelty@10"),
        ("[10]", "{new:new:f1@10: 1}", "new:new:f1@10"),
    ],
)
def test_a_gate_that_nothing_is_measured_for_is_a_fault(ks: str, weights: str, wrong: str) -> None:
    with pytest.raises(SettingsError, match=f"one of evaluate.ks .* got {wrong}"):
        load_settings(None, [f"evaluate.ks={ks}", f"gate.weights={weights}"])


def test_lists_of_ten_are_measured_whatever_else_is() -> None:
    with pytest.raises(SettingsError, match=r"evaluate.ks must hold 10, because .* got \[5, 20\]"):
        load_settings(None, ["evaluate.ks=[5, 20]", "gate.weights={ndcg@5: 1}"])


def test_the_gate_may_name_whatever_is_measured() -> None:
    ranked = {"f1", *metrics.KINDS}
    assert set(MEASURES) == {*ranked, *(f"{metrics.NEW}{kind}" for kind in ranked), *slates.KINDS}
    told = load_settings(
        None, ["evaluate.ks=[5, 10]", "gate.weights={new:f1@5: 1, novelty@5: 0.1}"]
    )
    assert set(told.gate.weights) == {"new:f1@5", "novelty@5"}


def test_a_missing_file_is_a_fault_with_a_next_step(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.yaml cannot be read .*name an existing"):
        load_settings(tmp_path / "none.yaml")


def test_a_file_that_is_not_text_is_a_fault(tmp_path: Path) -> None:
    file = tmp_path / "binary.yaml"
    file.write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(SettingsError, match="is not valid YAML"):
        load_settings(file)


@pytest.mark.parametrize("text", ["train", "train.epochs", "=5", "epochs=5"])
def test_an_override_without_section_key_and_value_is_a_fault(text: str) -> None:
    with pytest.raises(SettingsError, match=r"--set must be section\.key=value"):
        load_settings(overrides=[text])


def test_a_date_needs_no_quotes(tmp_path: Path) -> None:
    assert load_settings(overrides=["clean.earliest=1980-01-01"]).clean.earliest == "1980-01-01"
    file = written(tmp_path, "http: {start: 2026-01-05}\nclean: {earliest: 1980-01-01 10:00:00}")
    settings = load_settings(file)
    assert (settings.http.start, settings.clean.earliest) == ("2026-01-05", "1980-01-01T10:00:00")


@pytest.mark.parametrize("text", ["01/05/2020", "soon", "2020-13-01"])
def test_a_date_that_cannot_be_read_is_refused(tmp_path: Path, text: str) -> None:
    told = f"clean.earliest: must be an ISO date or time, 1990-01-01, got {text!r}"
    assert faults_of(tmp_path, f"clean: {{earliest: {text}}}") == [told]
