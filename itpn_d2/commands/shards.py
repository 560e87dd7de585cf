"""Pack a folder of images into tar files (WebDataset's layout), for pre-training and classification.

    itpn-shards FOLDER OUT                  # OUT/shard-000000.tar, ... of 1000 images each
    itpn-shards FOLDER OUT --labelled       # the folders in FOLDER are classes

The bytes of the images are unchanged. Exit status: 0 done; 2 there is no image, or OUT holds tar files
already.
"""

import argparse
import io
import sys
import tarfile
from pathlib import Path

from tqdm import tqdm

from ..data.image_sources import ImageSource, image_folder
from ..errors import DatasetError, add_debug, errors_of_use
from ..files import make_folder, written_whole


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folder", help="folder with images at any depth")
    p.add_argument("out", type=Path, help="folder for the tar files; created if missing")
    p.add_argument("--images-per-file", type=int, default=1000, metavar="N", help="default: 1000")
    p.add_argument("--labelled", action="store_true", help="each direct subfolder of FOLDER is a class")
    add_debug(p)
    return p


def write_shards(source: ImageSource, out: Path, images_per_file: int) -> list[Path]:
    """Write the images of ``source``, in their order, with the class of each where there are some.

    Raises:
        DatasetError: ``out`` holds tar files, the number is below 1, or an image can't be read. OutputError:
            ``out`` can't be written to.
    """
    if images_per_file < 1:
        raise DatasetError(f"--images-per-file={images_per_file}: at least 1")
    make_folder(out)
    if any(out.glob("*.tar")):
        raise DatasetError(f"{out}: it already contains tar files; choose another folder, or remove them")
    written: list[Path] = []
    with tqdm(total=len(source), desc="packing images", delay=1.0, leave=False) as bar:
        for start in range(0, len(source), images_per_file):
            path = out / f"shard-{len(written):06d}.tar"
            with written_whole(path) as partial, tarfile.open(partial, "w") as archive:
                for number in range(start, min(start + images_per_file, len(source))):
                    _add(archive, source, number)
                    bar.update()
            written.append(path)
    return written


def _add(archive: tarfile.TarFile, source: ImageSource, number: int) -> None:
    try:
        content = Path(source.path(number)).read_bytes()
    except OSError as error:
        raise DatasetError(f"{source.path(number)}: it can't be read ({error.strerror})") from error
    # loaders of WebDataset take what is before the first dot for the name: it has to be the image's own
    name = Path(source.paths[number])
    stem = f"{number:09d}_{name.stem.replace('.', '_')}"
    members = {stem + name.suffix.lower(): content}
    if source.labels is not None:
        members[f"{stem}.cls"] = source.classes[source.labels[number]].encode("utf-8", "surrogateescape")
    for member, data in members.items():
        entry = tarfile.TarInfo(member)
        entry.size = len(data)
        archive.addfile(entry, io.BytesIO(data))


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args = parser().parse_args(arguments)
    with errors_of_use(args.debug):
        source = image_folder(args.folder, labelled=args.labelled)
        written = write_shards(source, args.out, args.images_per_file)
        print(f"{len(source)} images in {len(written)} files: {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
