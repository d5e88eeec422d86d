"""The dataset catalog: what a dataset is, its files, what is known of their bytes, and where they can be had.

Here: the form of an entry, loading TOML with errors that name the line, recognising a folder of IDX files. The entries
themselves are data (datasets.toml). Not here: fetching (tasks/download) and checking decoded rows (tasks/validate).
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Mapping, Sequence  # noqa: TC003 - pydantic reads annotations at run time
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, ValidationError, model_validator

from schemas.errors import ConfigurationError
from schemas.handles import ROLES, SPLITS, Frozen, Role, Sha256, Split
from schemas.nearest import did_you_mean
from schemas.toml_lines import line_of, line_of_syntax_error
from schemas.visible import without_user

SHIPPED: Final = Path(__file__).with_name("datasets.toml")

HexSha256 = Annotated[Sha256, Field(pattern=r"^[0-9a-f]{64}$")]
HexMd5 = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.+-]*$", max_length=200)]
PackageName = Annotated[str, Field(pattern=r"^(@[a-z0-9][a-z0-9._-]*/)?[a-z0-9][a-z0-9.+_-]*$")]


class HttpSource(Frozen):
    """A file, or the zip that holds it, at an address."""

    kind: Literal["http"] = "http"
    url: str = Field(pattern=r"^https?://[^\s/]+/\S*$")

    def __str__(self) -> str:
        """Name the address without what may be secret in it."""
        return without_user(self.url).partition("?")[0]


class NpmSource(Frozen):
    """A member of a package in whatever npm registry the machine is set up for."""

    kind: Literal["npm"] = "npm"
    package: PackageName
    version: str = Field(pattern=r"^[0-9][0-9A-Za-z.+-]*$")
    member: str

    def __str__(self) -> str:
        """Name the package as npm does."""
        return f"npm package {self.package}@{self.version}"


class DebianSource(Frozen):
    """A member of a Debian package from whatever archive the machine is set up for."""

    kind: Literal["debian"] = "debian"
    package: PackageName
    member: str

    def __str__(self) -> str:
        """Name the package."""
        return f"Debian package {self.package}"


class FolderSource(Frozen):
    """A file on this machine: a path or a file:// URL; a relative one is relative to the catalog file."""

    kind: Literal["folder"] = "folder"
    path: str = Field(min_length=1)

    def __str__(self) -> str:
        """Name the file."""
        return f"file {self.path}"


class DrawnSource(Frozen):
    """Data that the project draws itself."""

    kind: Literal["drawn"] = "drawn"
    recipe: Literal["glyphs"]

    def __str__(self) -> str:
        """Name the recipe."""
        return f"drawn by the recipe '{self.recipe}'"


Source = Annotated[HttpSource | NpmSource | DebianSource | FolderSource | DrawnSource, Field(discriminator="kind")]


class Container(Frozen):
    """A published file that holds the payload: the `.gz`, or the zip, by the digest it was published with."""

    sha256: HexSha256 | None = None
    md5: HexMd5 | None = None
    bytes: int | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _has_one_digest(self) -> Self:
        if (self.sha256 is None) == (self.md5 is None):
            raise ValueError("a container is known by a sha256 or by an md5, by exactly one of them")
        return self


class DataFile(Frozen):
    """One IDX file and what is known of its bytes."""

    name: FileName
    payload_sha256: HexSha256 | None = Field(default=None, description="Of the decompressed file, header included.")
    payload_bytes: int | None = Field(default=None, gt=0, description="Of the decompressed file, header included.")
    containers: tuple[Container, ...] = ()
    member: str | None = Field(default=None, description="Name inside the zip, where the sources give a zip.")
    shape: tuple[int, ...] | None = Field(default=None, description="Shape of one item.")
    sum: int | None = Field(default=None, description="Sum of all values.")
    label_column: int | None = Field(default=None, ge=0, description="The class's column, where a label is a row.")
    sources: tuple[Source, ...] = Field(default=(), description="Asked before the dataset's own.")

    @property
    def known(self) -> bool:
        """Whether a digest says which bytes these must be."""
        return self.payload_sha256 is not None or bool(self.containers)


class SplitFiles(Frozen):
    """One split: its two files, and how many rows they must have where that is known."""

    rows: int | None = Field(default=None, gt=0)
    label_counts: tuple[int, ...] | None = Field(default=None, description="Rows of each class, in the labels' order.")
    wrong_labels: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        default=(),
        description="Rows of the test split, from 0, whose label people have reviewed and found wrong; for the report.",
    )
    images: DataFile
    labels: DataFile

    def file(self, role: Role) -> DataFile:
        """The file of a role."""
        return self.images if role == "images" else self.labels

    @model_validator(mode="after")
    def _counts_add_up(self) -> Self:
        if self.label_counts is not None and self.rows is not None and sum(self.label_counts) != self.rows:
            raise ValueError(f"label_counts add up to {sum(self.label_counts):,}, rows says {self.rows:,}")
        if self.labels.sum is not None and self.labels.label_column is not None:
            raise ValueError("labels.sum is of labels that are one number each, label_column says that they are rows")
        if self.wrong_labels and (self.rows is None or max(self.wrong_labels) >= self.rows):
            raise ValueError("wrong_labels names rows that are not there, or rows is not stated")
        return self


class Dataset(Frozen):
    """A dataset: pinned (its bytes are known and no others are taken) or tracked (its bytes may change)."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    title: str
    mode: Literal["pinned", "tracked"]
    homepage: str = ""
    licence: str = ""
    first_label: int = 0
    classes: int | None = Field(default=None, ge=2, description="None: read from the data; tracked datasets only.")
    class_names: tuple[str, ...] = ()
    orientation: Literal["upright", "transposed"] = Field(default="upright", description="For pictures only.")
    sources: tuple[Source, ...] = Field(default=(), description="For every file; {name} stands for the file's name.")
    splits: dict[Split, SplitFiles]

    def file(self, split: Split, role: Role) -> DataFile:
        """One of the dataset's files."""
        return self.splits[split].file(role)

    def files(self) -> tuple[DataFile, ...]:
        """All files."""
        return tuple(files.file(role) for files in self.splits.values() for role in ROLES)

    def statement(self) -> dict[str, Any]:
        """What is stated of the data, as JSON: all that their checks and their outputs hang on, and nothing besides."""
        return self.model_dump(
            mode="json",
            exclude={
                **dict.fromkeys(("sources", "homepage", "licence", "title"), True),
                "splits": {"__all__": {"wrong_labels": True, "images": {"sources"}, "labels": {"sources"}}},
            },
        )

    @property
    def stated(self) -> str:
        """SHA-256 of what is stated of the data."""
        return hashlib.sha256(json.dumps(self.statement(), sort_keys=True).encode()).hexdigest()

    def sources_of(self, file: DataFile) -> tuple[Source, ...]:
        """Where a file can be had, in the order of asking."""
        return (*file.sources, *(_filled(source, file.name) for source in self.sources))

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        missing = [split for split in SPLITS if split not in self.splits]
        if missing:
            raise ValueError(f"the splits train and test are needed, {' and '.join(missing)} is missing")
        sourceless = [file.name for file in self.files() if not self.sources_of(file)]
        if sourceless:
            raise ValueError(f"no source is given for {', '.join(sourceless)}")
        self._require_zips()
        self._require_mode()
        self._require_classes()
        return self

    def _require_zips(self) -> None:
        for file in self.files():
            kinds = {source.kind for source in self.sources_of(file)}
            if file.member is not None and kinds & {"npm", "debian", "drawn"}:
                raise ValueError(f"{file.name} is a member of a zip, which only http and folder sources can give")

    def _require_mode(self) -> None:
        unknown = [file.name for file in self.files() if not file.known]
        if self.mode == "pinned" and unknown:
            raise ValueError(f"a pinned dataset needs a digest for every file, there is none for {', '.join(unknown)}")
        known = [file.name for file in self.files() if file.known]
        if self.mode == "tracked" and known:
            raise ValueError(f"a tracked dataset's bytes may change, so it states no digest as for {', '.join(known)}")
        if self.mode == "tracked" and self.splits["test"].wrong_labels:
            raise ValueError("a tracked dataset's bytes may change, so nobody knows the rows of wrong_labels")
        if self.mode == "pinned" and self.classes is None:
            raise ValueError("a pinned dataset states its number of classes")

    def _require_classes(self) -> None:
        if self.first_label and self.classes is None:
            raise ValueError("first_label needs classes beside it: without them both are read from the labels")
        if self.class_names and len(self.class_names) != self.classes:
            raise ValueError(f"{len(self.class_names)} class_names for {self.classes} classes")
        if self.splits["train"].wrong_labels:
            raise ValueError("wrong_labels are told of test images alone, and those of train were never used")
        for split, files in self.splits.items():
            if files.label_counts is not None and len(files.label_counts) != self.classes:
                raise ValueError(f"{len(files.label_counts)} label_counts of {split} for {self.classes} classes")


class Catalog(Frozen):
    """All datasets that have a name."""

    datasets: dict[str, Dataset]

    def dataset(self, name: str) -> Dataset:
        """The dataset of a name.

        Raises:
            ConfigurationError: there is none; the nearest names are given.
        """
        if name in self.datasets:
            return self.datasets[name]
        meant = did_you_mean(name, self.datasets, "Or give a folder of IDX files with --data", most=3)
        raise ConfigurationError(f"there is no dataset '{name}'", f"one of {', '.join(self.datasets)}", meant)


def load_catalog(user_files: Sequence[Path] = ()) -> Catalog:
    """The shipped datasets and those of further files of the same form.

    Raises:
        ConfigurationError: an entry is malformed, or takes a name that is taken; dataset, key and line are given.
    """
    datasets: dict[str, Dataset] = {}
    for path in (SHIPPED, *user_files):
        text = _text(path)
        for name, dataset in _entries(text, path).items():
            if name in datasets:
                raise ConfigurationError(
                    f"the dataset '{name}' is defined already",
                    "a name that no other dataset has, since a run never substitutes one dataset for another",
                    f"Rename it, for example to my-{name}",
                    f"{path}:{line_of(text, (name,))}",
                )
            datasets[name] = dataset
    return Catalog(datasets=datasets)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigurationError(
            f"the dataset catalog cannot be read: {reason}", "a TOML file", "Check the path", str(path)
        ) from error


def _entries(text: str, path: Path) -> dict[str, Dataset]:
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = line_of_syntax_error(error) or len(text.splitlines())
        raise ConfigurationError(f"this is not TOML: {error}", "TOML", "Correct the line", f"{path}:{line}") from error
    return {name: _entry(name, entry, text, path) for name, entry in content.items()}


def _entry(name: str, entry: object, text: str, path: Path) -> Dataset:
    if not isinstance(entry, dict):
        raise ConfigurationError(
            f"the key '{name}' stands outside of any dataset",
            "one table a dataset, such as [my-digits]",
            "Put it below the header of its dataset",
            f"{path}:{line_of(text, (name,))}",
        )
    try:
        dataset = Dataset.model_validate({**entry, "name": name})
    except ValidationError as error:
        raise _malformed(name, entry, error, text, path) from error
    return _anchored(dataset, path.parent)


def _malformed(
    name: str, entry: Mapping[str, Any], error: ValidationError, text: str, path: Path
) -> ConfigurationError:
    findings = []
    for problem in error.errors(include_url=False):
        keys = _existing(entry, problem["loc"])
        line = line_of(text, (name, *keys))
        said = problem["msg"].removeprefix("Value error, ")
        findings.append((line, f"line {line}: {_dotted(keys) or 'the entry'}: {said}{_nearest(problem['type'], keys)}"))
    findings.sort()
    return ConfigurationError(
        f"the dataset '{name}' is malformed: {'; '.join(finding for _, finding in findings[:5])}",
        "an entry of the form that the shipped datasets.toml shows",
        "Correct it",
        f"{path}:{findings[0][0]}",
    )


def _existing(entry: object, location: Sequence[str | int]) -> tuple[str | int, ...]:
    """A location without the tags of unions that pydantic puts in; its last part may be what is missing."""
    keys: list[str | int] = []
    for part in location:
        inside = (isinstance(entry, dict) and part in entry) or (isinstance(entry, list) and isinstance(part, int))
        if inside:
            entry = entry[part]  # type: ignore[index]
        if inside or part is location[-1]:
            keys.append(part)
    return tuple(keys)


def _dotted(keys: Sequence[str | int]) -> str:
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys).removeprefix(".")


def _nearest(problem: str, keys: Sequence[str | int]) -> str:
    if problem != "extra_forbidden":
        return ""
    forms = (Dataset, SplitFiles, DataFile, Container, HttpSource, NpmSource, DebianSource, FolderSource, DrawnSource)
    known = dict.fromkeys(field for form in forms for field in form.model_fields)
    return f". {did_you_mean(str(keys[-1]), known)}".rstrip(". ")


def _filled(source: Source, name: str) -> Source:
    values = {key: str(value).replace("{name}", name) for key, value in source.model_dump().items()}
    return type(source).model_validate(values)


def _anchored(dataset: Dataset, folder: Path) -> Dataset:
    """The dataset with relative folder sources made absolute."""

    def anchor(sources: tuple[Source, ...]) -> tuple[Source, ...]:
        return tuple(
            FolderSource(path=str(folder.absolute() / source.path))
            if isinstance(source, FolderSource) and not source.path.startswith("file:")
            else source
            for source in sources
        )

    def file(of: DataFile) -> DataFile:
        return of.model_copy(update={"sources": anchor(of.sources)})

    splits = {
        split: files.model_copy(update={"images": file(files.images), "labels": file(files.labels)})
        for split, files in dataset.splits.items()
    }
    return dataset.model_copy(update={"sources": anchor(dataset.sources), "splits": splits})


_USUAL_NAME: Final = re.compile(
    r"^(?:(?P<prefix>\w[\w.+-]*?)[-_.])??(?:(?P<split>train(?:ing)?|t10k|test(?:ing)?)[-_.])?(?P<role>images?|labels?)"
    r"(?:[-_.]idx(?P<rank>\d)(?:[-_.]\w+)?|[-_.]idx|[-_.]ubyte)?(?:\.idx)?(?:\.(?:gz|xz))?$",
    re.IGNORECASE | re.ASCII,
)
_LOOKED_FOR: Final = (
    "one file each of train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte "
    "(test for t10k, a dot for the hyphen before idx, a prefix as in emnist-letters-train-…, labels-idx2-int, "
    "subfolders train and test, and .gz or .xz are recognised too)"
)


def dataset_of_folder(path: Path) -> Dataset:
    """The tracked dataset that a folder of IDX files under usual names is.

    Raises:
        ConfigurationError: it is no folder, or a file is missing or there twice; what is there is listed.
    """
    folder = path.absolute()
    if not folder.is_dir():
        raise ConfigurationError("this is not a folder", "a folder of IDX files", "Check the path", str(path))
    found = _recognised(folder)
    wrong = [_said(folder, split, role, files) for (split, role), files in found.items() if len(files) != 1]
    if wrong:
        names = sorted(f"{entry.name}/" if entry.is_dir() else entry.name for entry in folder.iterdir())
        listing = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
        raise ConfigurationError(
            f"{'; '.join(wrong)}; in the folder: {listing or 'nothing'}",
            _LOOKED_FOR,
            "Rename the files, remove the ones not meant, or describe them in a TOML file of your own",
            str(path),
        )
    _require_one_dataset(path, [paths[0] for paths in found.values()])
    files = {place: _local_file(paths[0]) for place, paths in found.items()}
    prefix = files["train", "images"].name.lower()
    return Dataset(
        name=name_of_folder(folder),
        title=folder.name or name_of_folder(folder),
        mode="tracked",
        orientation="transposed" if prefix.startswith("emnist-") else "upright",
        splits={split: SplitFiles(images=files[split, "images"], labels=files[split, "labels"]) for split in SPLITS},
    )


def _require_one_dataset(folder: Path, files: Sequence[Path]) -> None:
    """Raise ConfigurationError where names before the split differ: images of one dataset with labels of another."""
    matches = [_USUAL_NAME.match(file.name) for file in files]
    prefixes = {(match["prefix"] or "").lower() for match in matches if match}
    if len(prefixes) > 1:
        raise ConfigurationError(
            f"the files are named as those of {len(prefixes)} datasets: {', '.join(file.name for file in files)}",
            "one name before train and t10k in all four, or none",
            "Keep one dataset in the folder, or rename the files if they do belong together",
            str(folder),
        )


def name_of_folder(path: Path) -> str:
    """What the dataset of a folder is called: never as one of the catalog, of which it may be no copy."""
    name = as_name(path.absolute().name)
    return f"local-{name}" if name in load_catalog().datasets else name


def as_name(text: str) -> str:
    """A text as a name of small letters, digits and `._-`, for files and pages."""
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._") or "unnamed"


def _recognised(folder: Path) -> dict[tuple[Split, Role], list[Path]]:
    found: dict[tuple[Split, Role], list[Path]] = {(split, role): [] for split in SPLITS for role in ROLES}
    subfolders = [folder / name for name in ("train", "test", "t10k") if (folder / name).is_dir()]
    for path in sorted(path for place in (folder, *subfolders) for path in place.iterdir() if not path.is_dir()):
        match = _USUAL_NAME.match(path.name)
        split = (match["split"] or (path.parent.name if path.parent != folder else "")) if match else ""
        if match and split:
            role: Role = "images" if match["role"].lower().startswith("image") else "labels"
            found["train" if split.lower().startswith("train") else "test", role].append(path)
    return found


def _said(folder: Path, split: Split, role: Role, files: Sequence[Path]) -> str:
    if not files:
        return f"no file of {split} {role}"
    return f"{len(files)} files of {split} {role} ({', '.join(str(file.relative_to(folder)) for file in files)})"


def _local_file(path: Path) -> DataFile:
    match = _USUAL_NAME.match(path.name)
    rows = match is not None and match["role"].lower().startswith("label") and match["rank"] == "2"
    name = re.sub(r"\.(gz|xz)$", "", path.name, flags=re.IGNORECASE)
    return DataFile(name=name, label_column=0 if rows else None, sources=(FolderSource(path=str(path)),))
