"""A verdict on a data set before anything is trained on it.

Errors are what makes every later figure too good: a patient or a picture in two splits, a picture
in both classes. Notes are what one should know. What makes two pictures the same stands in
`bcnet.data.duplicates`; nothing here changes a table or a file.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd

from bcnet.config import CLASS_NAMES, SPLITS
from bcnet.data.duplicates import Fingerprint, find_duplicates, take_fingerprint
from bcnet.data.manifest import patient_keys, read_sample
from bcnet.readers import UnreadableImageError

ERRORS = ("patient_in_two_splits", "duplicate_across_splits", "duplicate_across_labels")
"""Kinds of findings that fail the audit, in the order of a report."""

NOTES = (
    "class_balance",
    "one_class",
    "patients_unknown",
    "duplicate",
    "nearly_blank",
    "resolution_outlier",
    "unreadable",
    "left_out",
)
"""Kinds of findings that do not fail it, in the order of a report."""

COLUMNS = ("path", "label", "patient_id", "split", "source", "dataset")
"""What a table must tell about each picture."""

SIZE_RATIO = 2
"""A picture is an outlier when a side is more than this many times the usual, or its inverse:
within a factor of two a resize keeps most of what a network sees."""


def audit(
    table: pd.DataFrame,
    *,
    skipped: Iterable[tuple[str, str]] = (),
    read: Callable[[str, str], np.ndarray] = read_sample,
    progress: Callable[[int], object] | None = None,
) -> dict:
    """Judge whether a data set can give honest figures.

    Pictures are the same when `bcnet.data.duplicates.find_duplicates` says so. A group of them
    that stands both in two splits and in both classes gives two findings, one of each kind.
    Patients are told apart by data set and id.

    Args:
        table: A manifest's table, one row per picture; `split` and `patient_id` may be missing
            values.
        skipped: Files the manifest left out, as pairs of path and reason.
        read: Gives the pixels, uint8 (H, W, 3), of a row's `path` and `source`, and raises
            `UnreadableImageError` or `OSError` where there are none. Called from several threads.
        progress: Called with the number of pictures done since the last call.

    Returns:
        Ready for JSON: `verdict` (`"fail"` when there is an error, else `"pass"`), `n_images`
        (rows of the table), `n_patients` (None when no patient is known) and `findings`, errors
        first. Each finding has `kind` (of `ERRORS` or `NOTES`), `severity` (`"error"` or
        `"note"`), `splits`, `labels` (class names), `message` (a sentence) and `images`: the
        paths of all its pictures (`source: path` where two sources share a path). `class_balance`
        and `one_class` are about whole splits and name no picture.

    Raises:
        ValueError: If `table` is empty or lacks a column.

    Example:
        A table of one patient with `a.png` in train and `b.png` in test has verdict `"fail"` and
        a finding `patient_in_two_splits` with `images` `["a.png", "b.png"]`.
    """
    _require_pictures(table)
    rows = table.reset_index(drop=True).assign(name=_name_pictures(table))
    outcomes = _take_fingerprints(rows, read, progress)
    is_read = np.array([isinstance(outcome, Fingerprint) for outcome in outcomes])
    readable = rows[is_read].reset_index(drop=True)
    fingerprints = [outcome for outcome in outcomes if isinstance(outcome, Fingerprint)]
    reasons = [outcome for outcome in outcomes if isinstance(outcome, str)]
    findings = [
        *_find_split_patients(rows),
        *_find_same_pictures(readable, fingerprints),
        *_find_class_balance(rows),
        *_find_unknown_patients(rows),
        *_find_nearly_blank(readable, fingerprints),
        *_find_odd_sizes(readable, fingerprints),
        *_find_unreadable(rows[~is_read], reasons),
        *_find_skipped(skipped),
    ]
    findings.sort(key=lambda finding: (*ERRORS, *NOTES).index(finding["kind"]))
    known = rows[rows["patient_id"].notna()]
    return {
        "verdict": "fail" if any(x["severity"] == "error" for x in findings) else "pass",
        "n_images": len(rows),
        "n_patients": patient_keys(known).nunique() if len(known) else None,
        "findings": findings,
    }


def format_audit(report: dict) -> str:
    """Tell the result of an audit in at most a screenful.

    Args:
        report: What `audit` returned.

    Returns:
        Lines: the verdict, the counts, the errors, the notes; of each kind the first findings
        with their first pictures, and how many there are.

    Example:
        >>> format_audit({"verdict": "pass", "n_images": 2, "n_patients": 1, "findings": []})
        'PASS: no error found\\n2 pictures of 1 patient'
    """
    findings = report["findings"]
    errors = sum(finding["severity"] == "error" for finding in findings)
    patients = report["n_patients"]
    whose = "unknown patients" if patients is None else _count(patients, "patient")
    lines = [
        f"{report['verdict'].upper()}: {_count(errors, 'error') if errors else 'no error'} found",
        f"{_count(report['n_images'], 'picture')} of {whose}",
    ]
    for title, kinds, shown in (("Errors", ERRORS, 2), ("Notes", NOTES, 1)):
        told = [line for kind in kinds for line in _tell_kind(findings, kind, shown)]
        lines += ["", title, *told] if told else []
    return "\n".join(lines)


def _require_pictures(table: pd.DataFrame) -> None:
    missing = [column for column in COLUMNS if column not in table]
    if missing:
        raise ValueError(f"`table` must have a column {missing[0]}. Received: {list(table)}")
    if table.empty:
        raise ValueError("`table` must hold at least one picture. Received: 0 rows")


def _name_pictures(table: pd.DataFrame) -> np.ndarray:
    # Two .npz files both have a train[0].
    shared = table["path"].duplicated(keep=False)
    return table["path"].mask(shared, table["source"] + ": " + table["path"]).to_numpy()


def _take_fingerprints(
    rows: pd.DataFrame, read: Callable, progress: Callable | None
) -> list[Fingerprint | str]:
    """A fingerprint of each picture, or the reason why it has none."""

    def take(path: str, source: str) -> Fingerprint | str:
        try:
            return take_fingerprint(read(path, source))
        except UnreadableImageError as error:
            return error.reason
        except OSError as error:
            return error.strerror or str(error)

    outcomes = []
    # Decoding, shrinking and hashing leave Python's lock: threads use all cores.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for outcome in pool.map(take, rows["path"], rows["source"]):
            outcomes.append(outcome)
            if progress:
                progress(1)
    return outcomes


def _make_finding(kind: str, rows: pd.DataFrame, message: str) -> dict:
    return {
        "kind": kind,
        "severity": "error" if kind in ERRORS else "note",
        "splits": _list_splits(rows),
        "labels": _list_labels(rows),
        "message": message,
        "images": rows["name"].tolist(),
    }


def _list_splits(rows: pd.DataFrame) -> list[str]:
    present = set(rows["split"])
    return [split for split in SPLITS if split in present]


def _list_labels(rows: pd.DataFrame) -> list[str]:
    present = set(rows["label"])
    return [name for label, name in enumerate(CLASS_NAMES) if label in present]


def _find_split_patients(rows: pd.DataFrame) -> Iterator[dict]:
    placed = rows[rows["patient_id"].notna() & rows["split"].notna()]
    keys = patient_keys(placed)
    shared = placed.groupby(keys)["split"].transform("nunique") > 1
    for _, pictures in placed[shared].groupby(keys[shared], sort=True):
        patient, dataset = pictures.iloc[0][["patient_id", "dataset"]]
        where = " and ".join(_list_splits(pictures))
        message = f"Patient {patient} of {dataset} stands in {where}."
        yield _make_finding("patient_in_two_splits", pictures, message)


def _find_same_pictures(rows: pd.DataFrame, fingerprints: Sequence[Fingerprint]) -> Iterator[dict]:
    for group in find_duplicates(fingerprints):
        pictures = rows.iloc[group]
        splits, labels = _list_splits(pictures), _list_labels(pictures)
        equal = len({fingerprints[position].digest for position in group}) == 1
        subject = f"{len(group):,} {'equal' if equal else 'nearly equal'} pictures"
        if len(splits) > 1:
            message = f"{subject} stand in {' and '.join(splits)}."
            yield _make_finding("duplicate_across_splits", pictures, message)
        if len(labels) > 1:
            message = f"{subject} are labelled {' and '.join(labels)}."
            yield _make_finding("duplicate_across_labels", pictures, message)
        if len(splits) < 2 and len(labels) < 2:
            yield _make_finding("duplicate", pictures, f"{subject} repeat each other.")


def _find_class_balance(rows: pd.DataFrame) -> Iterator[dict]:
    counts = {"The data": _count_labels(rows)}
    if 0 not in counts["The data"]:
        counts |= {split: _count_labels(rows[rows["split"] == split]) for split in SPLITS}
    for name, numbers in counts.items():
        if any(numbers) and 0 in numbers:
            part = rows[rows["split"] == name] if name in SPLITS else rows
            message = f"{name} holds {_list_labels(part)[0]} pictures only."
            yield _make_finding("one_class", part, message) | {"images": []}
    shares = [f"{name}: {_tell_balance(x)}" for name, x in counts.items() if all(x)]
    if shares:
        message = f"{'; '.join(shares)}."
        yield _make_finding("class_balance", rows, message) | {"images": []}


def _count_labels(rows: pd.DataFrame) -> list[int]:
    return [int((rows["label"] == label).sum()) for label in range(len(CLASS_NAMES))]


def _tell_balance(counts: Sequence[int]) -> str:
    amounts = [f"{count:,} {name}" for count, name in zip(counts, CLASS_NAMES, strict=True)]
    return f"{' and '.join(amounts)} ({counts[1] / sum(counts):.0%} {CLASS_NAMES[1]})"


def _find_unknown_patients(rows: pd.DataFrame) -> Iterator[dict]:
    unknown = rows[rows["patient_id"].isna()]
    if len(unknown):
        message = f"{_count(len(unknown), 'picture')} of {len(rows):,} tell no patient."
        yield _make_finding("patients_unknown", unknown, message)


def _find_nearly_blank(rows: pd.DataFrame, fingerprints: Sequence[Fingerprint]) -> Iterator[dict]:
    blank = rows[[fingerprint.nearly_blank for fingerprint in fingerprints]]
    if len(blank):
        one_colour = sum(fingerprint.one_colour for fingerprint in fingerprints)
        message = f"{_count(len(blank), 'picture')} nearly blank, {one_colour:,} of one colour."
        yield _make_finding("nearly_blank", blank, message)


def _find_odd_sizes(rows: pd.DataFrame, fingerprints: Sequence[Fingerprint]) -> Iterator[dict]:
    if rows.empty:
        return
    # Short side first: a picture on its side is no outlier.
    sizes = np.sort([fingerprint.size for fingerprint in fingerprints], axis=1)
    usual = np.median(sizes, axis=0)
    is_odd = ((sizes > SIZE_RATIO * usual) | (sizes * SIZE_RATIO < usual)).any(axis=1)
    if is_odd.any():
        amount = _count(int(is_odd.sum()), "picture")
        message = f"{amount} with a side over {SIZE_RATIO} times, or under 1/{SIZE_RATIO} of, "
        message += f"the usual {usual[0]:.0f}×{usual[1]:.0f} pixels."
        yield _make_finding("resolution_outlier", rows[is_odd], message)


def _find_unreadable(rows: pd.DataFrame, reasons: Sequence[str]) -> Iterator[dict]:
    for reason, pictures in rows.groupby(np.array(reasons, dtype=object), sort=True):
        message = f"{_count(len(pictures), 'picture')} cannot be read: {reason.rstrip('.')}."
        yield _make_finding("unreadable", pictures, message)


def _find_skipped(skipped: Iterable[tuple[str, str]]) -> Iterator[dict]:
    files = pd.DataFrame(list(skipped), columns=["name", "reason"]).assign(split=None, label=None)
    for reason, group in files.groupby("reason", sort=True):
        message = f"{_count(len(group), 'file')} left out: {reason.rstrip('.')}."
        yield _make_finding("left_out", group, message)


def _tell_kind(findings: Sequence[dict], kind: str, shown: int) -> Iterator[str]:
    chosen = [finding for finding in findings if finding["kind"] == kind]
    for finding in chosen[:shown]:
        yield f"  {kind}: {finding['message']}{_tell_images(finding['images'])}"
    if len(chosen) > shown:
        pictures = sum(len(finding["images"]) for finding in chosen[shown:])
        yield f"  {kind}: {len(chosen) - shown:,} more, with {_count(pictures, 'picture')}"


def _tell_images(images: Sequence[str]) -> str:
    rest = f" and {len(images) - 2:,} more" if len(images) > 2 else ""
    return f" ({', '.join(images[:2])}{rest})" if images else ""


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
