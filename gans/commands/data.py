"""`gans data`: the data sets by name, what they are and whether they are here; `gans data get` downloads one."""

from typing import Annotated, Literal

from gans.commands.options import check_dataset, option
from gans.commands.score import described
from gans.errors import InputError
from gans.files import data_root
from gans.registry import DATASETS, FOLDER, HUB


def data(
    action: Annotated[Literal["get"] | None, option("get: download the named ones; default: list all")] = None,
    names: Annotated[tuple[str, ...], option("data sets to download", metavar="NAME")] = (),
) -> int:
    if action:
        return get(names)
    for name in DATASETS:
        print(facts(name, DATASETS[name]))
    for name in DATASETS.names()[len(DATASETS) :]:
        print(f"{name}: of an installed package")
    print(
        f"\ngans data get NAME downloads one; {FOLDER}PATH is your own folder or archive of"
        f" images, {HUB}OWNER/NAME a data set of the Hugging Face hub"
    )
    return 0


def facts(name: str, found: object) -> str:
    from gans.data.published import Published

    if not isinstance(found, Published):
        return f"{name}: a function in this repository"
    root = data_root()
    here = f"yes, {root / found.place}" if found.is_in(root) else f"no: gans data get {name}"
    size = f"{found.megabytes / 1000:.1f} GB" if found.megabytes >= 1000 else f"{found.megabytes} MB"
    place = {"here": here, "size": f"{size} on disk"} if found.place else {}
    return described(
        f"{name}: {found.title}, {found.images}", place | {"source": found.source, "licence": found.licence}
    )


def get(names: tuple[str, ...]) -> int:
    if not names:
        raise InputError("gans data get: name the data sets to download; `gans data` lists them")
    for name in map(check_dataset, names):
        if name.startswith(HUB):
            from gans.data import datasets

            found = datasets.load(name)
            side = found.resolution
            print(f"{name}: {len(found.train):,} + {len(found.test):,} images, {side} x {side}")
            continue
        if name not in DATASETS.entries:
            raise InputError(f"'{name}' is not a data set to download; `gans data` lists those that are")
        DATASETS[name](data_root().absolute())
        print(facts(name, DATASETS[name]))
    return 0
