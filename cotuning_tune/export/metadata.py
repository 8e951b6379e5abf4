"""The head of a model card that the Hugging Face Hub reads: YAML between two lines of dashes."""

from collections.abc import Mapping
from typing import Any

import yaml

from cotuning_tune.export import OF_LIBRARIES
from cotuning_tune.scores import Metric

TYPES = {  # the Hub's names of metrics; the others have their own
    "mean_class_accuracy": "balanced_accuracy",
    "macro_f1": "f1",
    "entity_f1": "f1",
    "auroc": "roc_auc",
}
LICENCES = ("apache-2.0", "mit", "bsd-3-clause", "cc-by-4.0", "cc-by-nc-4.0", "cc-by-sa-4.0", "cc0-1.0")


def _tasks(description: Mapping[str, Any]) -> tuple[str, str]:
    """The Hub's name of what the model was trained for, and of what a pipeline runs it as."""
    if "preprocessing" in description:
        return "image-classification", "image-classification"
    task = "text-classification" if description["whole"] else "token-classification"
    return task, "token-classification"  # a text's class is its first token's


def _result(description: Mapping[str, Any], task: str, metric: Metric, score: float) -> dict[str, Any]:
    """The test score; a share of 1 where the metric is a percentage, as the Hub's metrics are."""
    name = description["task"]
    return {
        "task": {"type": task},
        "dataset": {"type": description["data_format"] or name, "name": name, "split": "test"},
        "metrics": [
            {
                "type": TYPES.get(metric.name, metric.name),
                "value": round(score / 100 if metric.percent else score, 6),
                "name": f"test {metric.shown}",
            }
        ],
    }


def front_matter(title: str, description: Mapping[str, Any], metric: Metric, score: float, licence: str) -> str:
    """The metadata with the fence around it. ``licence``: of the pre-trained weights, left out where the Hub has no
    name for it."""
    kind, (task, run_as) = description["format"], _tasks(description)
    library = kind if kind in (*OF_LIBRARIES, "transformers", "onnx") else "cotuning_tune"
    content = {
        **({"license": licence.lower()} if licence.lower() in LICENCES else {}),
        "library_name": library,
        "pipeline_tag": run_as,
        "tags": list(dict.fromkeys([task, library, "transfer-learning", description["method"]])),
        "metrics": [TYPES.get(metric.name, metric.name)],
        "model-index": [{"name": title, "results": [_result(description, task, metric, score)]}],
    }
    return f"---\n{yaml.safe_dump(content, sort_keys=False, allow_unicode=True)}---\n"
