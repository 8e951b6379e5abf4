"""The service's process is small: it loads none of what trains."""

import subprocess
import sys


def test_the_service_loads_neither_torch_nor_ray_nor_optuna() -> None:
    names = "asked people reconciler settings store"
    imports = "; ".join(f"import cotuning_tune.service.{name}" for name in names.split())
    shown = f"{imports}; import sys; print(sorted({{'torch', 'ray', 'optuna', 'numpy'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", shown], capture_output=True, text=True, check=True).stdout == "[]\n"
