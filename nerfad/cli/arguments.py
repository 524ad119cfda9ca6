"""What the help calls the positional arguments of the commands."""

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

VideoFile = Positional[Annotated[Path, arg(metavar="VIDEO")]]
DatasetFolder = Positional[Annotated[Path, arg(metavar="DATASET")]]
DatasetFolders = Positional[Annotated[tuple[Path, ...], arg(metavar="DATASET [DATASET ...]")]]
RunFolder = Positional[Annotated[Path, arg(metavar="RUN")]]
Output = Positional[Annotated[Path, arg(metavar="OUT")]]
FrameNumber = Positional[Annotated[int, arg(metavar="FRAME")]]
