"""Looking at the file of an image before training starts."""

from typing import Literal

from .decode import BrokenImageError, LargeImageError, decode, open_image, turned, upright_size
from .records import Picture
from .values import BadValue

VerifyImages = Literal["decode", "header", "none"]


def check_picture(path: str, picture: Picture, verify: VerifyImages) -> None:
    """Look at the file of a json's image; see :func:`.check_coco`. A size that the json lacks is the file's.

    Raises:
        BadValue: it can't be used.
    """
    unknown = picture.width is None or picture.height is None
    if verify == "none" and not unknown:
        return
    try:
        with open_image(path) as image:
            stored, (width, height) = image.size, upright_size(image)
            swapped = turned(image)
            if verify == "decode":
                decode(image)
    except LargeImageError as error:
        raise BadValue("image above the pixel limit", f"{path}: {error}") from error
    except BrokenImageError as error:
        raise BadValue("broken image", f"{path} can't be read ({error})") from error
    if picture.width is None or picture.height is None:
        picture.width, picture.height = width, height
    if (width, height) == (picture.width, picture.height):
        return
    why = f"the json says {picture.width}x{picture.height}, but the file is {width}x{height}"
    if swapped and (height, width) == (picture.width, picture.height):
        why += (
            f": it is stored as {stored[0]}x{stored[1]}, and its EXIF orientation turns it by 90 degrees. "
            f"The annotations seem to match the unturned pixels: remove the orientation from the files "
            f"(exiftool -Orientation= FILES), or annotate the images as they are shown"
        )
    elif (height, width) == (picture.width, picture.height):
        why += ": width and height are exchanged"
    raise BadValue("wrong image size", why)
