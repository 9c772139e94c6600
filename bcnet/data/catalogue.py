"""The public data sets that bcnet can fetch: addresses, checksums, licences.

A set is listed when its official address is known. Every checksum has its source beside it; where
none is published, none stands here. What is done with a set belongs to `fetch`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bcnet.data.dataset_info import DatasetInfo
from bcnet.data.download import RemoteFile
from bcnet.data.unpack import Update, convert_pcam, unpack_tar


@dataclass(frozen=True, kw_only=True)
class PublicSet:
    """Describe a data set that others publish.

    Attributes:
        name: What to type.
        files: All that has to be downloaded, in the order in which `arrange` takes them.
        images: Number of pictures.
        info: Its own words, for `dataset.json`; the source is its citation.
        arrange: Makes `target` from the downloads, `arrange(downloads, target, update)`; None
            where the one file is read as it is.
    """

    name: str
    files: tuple[RemoteFile, ...]
    images: int
    info: DatasetInfo
    arrange: Callable[[list[Path], Path, Update], None] | None = None


def find_set(name: str) -> PublicSet:
    """Find a set of the catalogue.

    Args:
        name: As `format_sets` lists it.

    Returns:
        The set.

    Raises:
        ValueError: If there is none of this name.

    Example:
        >>> find_set("pcam").images
        327680
    """
    if name not in SETS:
        raise ValueError(f"`name` must be one of {', '.join(SETS)}. Received: name={name}")
    return SETS[name]


def format_sets() -> str:
    """List the catalogue: name, number of pictures, size of the download, licence, citation."""
    return "\n".join(
        f"{public.name:<16}{public.images:>8,} pictures {_format_size(public):>8}  "
        f"{public.info.licence}\n    {public.info.source}"
        for public in SETS.values()
    )


def _format_size(public: PublicSet) -> str:
    size = sum(file.size for file in public.files)
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def _describe_breastmnist(name: str, size: int, checksum: str) -> PublicSet:
    file = f"{name.replace('-', '_')}.npz"
    url = f"https://zenodo.org/records/10519652/files/{file}?download=1"
    return PublicSet(
        name=name,
        files=(RemoteFile(name=file, url=url, size=size, checksum=f"md5:{checksum}"),),
        images=780,
        info=DatasetInfo(
            name="BreastMNIST",
            source="Yang et al. 2023, MedMNIST v2, doi:10.1038/s41597-022-01721-8; pictures of "
            "Al-Dhabyani et al. 2020, doi:10.1016/j.dib.2019.104863",
            licence="CC BY 4.0",
            modality="radiology",
            negative="normal and benign",
        ),
    )


def _describe_pcam(part: str, size: int, checksum: str) -> RemoteFile:
    file = f"camelyonpatch_level_2_split_{part}.h5.gz"
    url = f"https://zenodo.org/records/2546921/files/{file}?download=1"
    return RemoteFile(name=file, url=url, size=size, checksum=f"sha256:{checksum}")


# Checksums: the authors' package medmnist 3.0.2, info.py.
BREASTMNIST = (
    _describe_breastmnist("breastmnist", 560_000, "750601b1f35ba3300ea97c75c52ff8f6"),
    _describe_breastmnist("breastmnist-64", 3_000_000, "742edef2a1fd1524b2efff4bd7ba9364"),
    _describe_breastmnist("breastmnist-128", 11_000_000, "363e4b3f8d712e9b5de15470a2aaadf1"),
    _describe_breastmnist("breastmnist-224", 30_000_000, "b56378a6eefa9fed602bb16d192d4c8b"),
)

# Sizes and checksums: TensorFlow Datasets, url_checksums/patch_camelyon.txt, for the same record.
# (The table on the authors' page has validation and test interchanged.)
PCAM_FILES = (
    ("train_x", 6_421_353_462, "d619e741468a7ab35c7e4a75e6821b7e7e6c9411705d45708f2a0efc8960656c"),
    ("train_y", 21_378, "b74126d2c01b20d3661f9b46765d29cf4e4fba6faba29c8e0d09d406331ab75a"),
    ("valid_x", 805_965_320, "f82ee1670d027b4ec388048d9eabc2186b77c009655dae76d624c0ecb053ccb2"),
    ("valid_y", 3_038, "ce1ae30f08feb468447971cfd0472e7becd0ad96d877c64120c72571439ae48c"),
    ("test_x", 800_875_929, "79174c2201ad521602a5888be8f36ee10875f37403dd3f2086caf2182ef87245"),
    ("test_y", 3_040, "0a522005fccc8bbd04c5a117bfaf81d8da2676f03a29d7499f71d0a0bd6068ef"),
)

PCAM = PublicSet(
    name="pcam",
    files=tuple(_describe_pcam(*row) for row in PCAM_FILES),
    images=327_680,
    info=DatasetInfo(
        name="PatchCamelyon",
        source="Veeling et al. 2018, doi:10.1007/978-3-030-00934-2_24; slides of "
        "Ehteshami Bejnordi et al. 2017, doi:10.1001/jama.2017.14585",
        licence="CC0 1.0",
        modality="tissue",
        negative="no tumour in the central 32×32 pixels",
    ),
    arrange=convert_pcam,
)

BREAKHIS = PublicSet(
    name="breakhis",
    files=(
        RemoteFile(
            name="BreaKHis_v1.tar.gz",
            url="https://www.inf.ufpr.br/vri/databases/BreaKHis_v1.tar.gz",
            size=4_273_561_758,
        ),
    ),
    images=7_909,
    info=DatasetInfo(
        name="BreaKHis",
        source="Spanhol et al. 2016, doi:10.1109/TBME.2015.2496264",
        licence="CC BY 4.0",
        modality="tissue",
    ),
    arrange=unpack_tar,
)

SETS = {public.name: public for public in (*BREASTMNIST, PCAM, BREAKHIS)}
"""What `bcnet fetch` offers, by name."""
