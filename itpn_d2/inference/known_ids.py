"""The ids that a COCO json has for images and categories, for results that are to be compared with it."""

from pathlib import Path

from ..data.find import SuffixTable
from ..data.problems import read_json
from ..data.records import distinct_names, read_category, read_picture
from ..data.values import BadValue, Identity, identity
from ..errors import ConfigError, DatasetError


class KnownIds:
    """Ids by file name and by the name of a category, as the json has them: numbers or texts.

    Attributes:
        categories: ids by name; if two have the same name, the id is added to it as in training.
        unknown: files that have no id in the json, or share it with an earlier file.

    Raises:
        ConfigError: the file is no such json.
    """

    def __init__(self, path: Path):
        self.path = path
        try:
            data = read_json(path, ("images", "categories"), "a COCO json with images and categories")
            pictures = [(read_picture(record), record["id"]) for record in data["images"]]
            categories = [read_category(record) for record in data["categories"]]
        except (DatasetError, BadValue) as error:
            raise ConfigError(f"{path}: not a COCO json with images and categories ({error})") from error
        stored = {identity(record["id"], "id"): record["id"] for record in data["categories"]}
        self.categories = {c.name: _stored(stored[c.id]) for c in distinct_names(categories)}
        self._table = SuffixTable((picture.file_name, _stored(raw)) for picture, raw in pictures)
        self._ids = {identity(raw, "id") for _, raw in pictures}
        self._given: set[Identity] = set()
        self.unknown: list[str] = []

    def image(self, file_name: str) -> Identity | None:
        """The id of the one image whose path ends as ``file_name`` does; None where there is none, where
        there are several, or where it was given before."""
        found = self._table.find(file_name)
        if found is None or found in self._given:
            self.unknown.append(file_name)
            return None
        self._given.add(found)
        return found

    @property
    def missing(self) -> int:
        """The number of images of the json that have not been requested."""
        return len(self._ids) - len(self._given)

    @property
    def largest(self) -> int:
        """The largest number among the ids of images, 0 without one."""
        return max((i for i in self._ids if isinstance(i, int)), default=0)


def _stored(value: object) -> Identity:
    return value if isinstance(value, int | str) else identity(value, "id")
