"""Small sets in the formats that people have their own images in, as ``miniatures`` has the published ones."""

import json
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tests.data.drawing import COUNTS, WHOLE, Options, draw, mixed, write_classes, write_lines


def csv_list(root: Path, seed: int = 0, parted: bool = True) -> Options:
    """A table of images; ``parted``: with a column of splits."""
    rng, lines = np.random.default_rng(seed), ["image,label,split" if parted else "image,label"]
    classes = ("Ara, blue", "robin", "wren")
    for split, count in COUNTS.items() if parted else [("all", WHOLE)]:
        for number, label in enumerate(mixed(count, rng)):
            name = f"pictures/{split} {number}.jpg"
            draw(root / name, label, rng)
            lines.append(f'{name},"{classes[label]}"' + (f",{split}" if parted else ""))
    write_lines(root / "list.csv", lines)
    return {"file": str(root / "list.csv")}


def image_folder(root: Path, seed: int = 0) -> Options:
    """train/CLASS, val/CLASS, test/CLASS."""
    rng = np.random.default_rng(seed)
    for split, count in COUNTS.items():
        write_classes(root / split, ("daisy", "rose", "tulip"), "{1}.jpg", count, rng)
    return {"root": str(root)}


def zip_of_folder(root: Path, seed: int = 0) -> Options:
    """The same inside a zip archive, in one folder."""
    image_folder(root / "pictures", seed)
    return {"root": shutil.make_archive(str(root / "packed"), "zip", root, "pictures")}


def drawn(root: Path, seed: int) -> Iterator[tuple[str, str, int]]:
    """Split, file and label of images that are drawn below the root."""
    rng = np.random.default_rng(seed)
    for split, count in COUNTS.items():
        for number, label in enumerate(mixed(count, rng)):
            draw(root / split / f"{number:03d}.jpg", label, rng)
            yield split, f"{number:03d}.jpg", label


def coco_classification(root: Path, seed: int = 0) -> Options:
    """train/_annotations.coco.json, valid/..., test/..., and the images beside."""
    categories = [{"id": n, "name": name} for n, name in enumerate(("owl", "crow", "auk"), 1)]
    found: dict[str, Any] = {}
    for split, name, label in drawn(root, seed):
        part = found.setdefault(split, {"images": [], "annotations": [], "categories": categories})
        part["images"].append({"id": len(part["images"]), "file_name": name})
        part["annotations"].append({"id": 0, "image_id": len(part["annotations"]), "category_id": label + 1})
    for split, part in found.items():
        write_lines(root / split / "_annotations.coco.json", [json.dumps(part)])
    return {"root": str(root)}


def hf_dataset(root: Path, seed: int = 0) -> Options:
    """A folder of DatasetDict.save_to_disk."""
    feature = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["yak", "ant", "zebu"]}}
    told = {"huggingface": json.dumps({"info": {"features": feature}})}
    found: dict[str, list[dict[str, object]]] = {}
    for split, name, label in drawn(root / "drawn", seed):
        data = (root / "drawn" / split / name).read_bytes()
        found.setdefault(split, []).append({"image": {"bytes": data, "path": name}, "label": label})
    for split, rows in found.items():
        table = pa.Table.from_pylist(rows).replace_schema_metadata(told)
        (root / "saved" / split).mkdir(parents=True)
        with pa.ipc.new_stream(root / "saved" / split / "data-00000-of-00001.arrow", table.schema) as stream:
            stream.write_table(table)
        state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}
        write_lines(root / "saved" / split / "state.json", [json.dumps(state)])
    write_lines(root / "saved" / "dataset_dict.json", [json.dumps({"splits": [*found]})])
    return {"root": str(root / "saved")}


def hf_imagefolder(root: Path, seed: int = 0) -> Options:
    """metadata.jsonl in the folder of each split."""
    lines: dict[str, list[str]] = {}
    for split, name, label in drawn(root, seed):
        lines.setdefault(split, []).append(json.dumps({"file_name": name, "label": label}))
    for split, found in lines.items():
        write_lines(root / split / "metadata.jsonl", found)
    return {"root": str(root)}


def webdataset(root: Path, seed: int = 0) -> Options:
    """A tar shard of each split."""
    (root / "shards").mkdir(parents=True)
    for split, name, label in drawn(root, seed):
        write_lines(root / "label.cls", [("auk", "crow", "owl")[label]])
        with tarfile.open(root / "shards" / f"birds-{split}-0000.tar", "a") as archive:
            archive.add(root / split / name, name)
            archive.add(root / "label.cls", name.replace(".jpg", ".cls"))
    return {"root": str(root / "shards")}


OWN = {  # formats that one's own images are in
    "coco_classification": coco_classification,
    "csv_list": csv_list,
    "hf_dataset": hf_dataset,
    "hf_imagefolder": hf_imagefolder,
    "image_folder": image_folder,
    "webdataset": webdataset,
}
