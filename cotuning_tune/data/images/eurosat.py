"""EuroSAT, 10 uses of land seen by Sentinel-2 (Helber et al. 2019): a fixed share of each class is the test split."""

from collections.abc import Sequence
from types import MappingProxyType

from cotuning_tune.data.images._published import Rows
from cotuning_tune.data.images._torchvision import Unparted


class EuroSat(Unparted):
    """27,000 images of 64 x 64 pixels in red, green and blue."""

    page = "https://github.com/phelber/eurosat"
    layout = """
    2750/CLASS/*.jpg (or EuroSAT_RGB/CLASS/*.jpg), from AnnualCrop to SeaLake; it may lie in eurosat/
    """
    counts = MappingProxyType({"classes": 10, "images": 27000})
    folders = ("2750", "eurosat/2750", "EuroSAT/2750", "EuroSAT_RGB")
    marks = ("AnnualCrop",)
    fetcher = "EuroSAT"

    def read(self) -> tuple[Sequence[str], dict[str, Rows]]:
        names = self.sub_folders()
        return names, self.split(self.class_rows(names))
