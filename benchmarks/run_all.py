"""Every benchmark, one after the other: ``make bench``. Figures go to ``benchmarks/results``."""

import driver
import folder
import gpu
import loader
import plain_way
import relationship
import service
import start
import steps
import timm_script


def main() -> None:
    steps.main()
    timm_script.main()
    loader.main([])
    folder.main([])
    driver.main([])
    relationship.main(["--small", "--pairs", "7"])
    relationship.main(["--pairs", "5"])
    service.main()
    start.main([])
    plain_way.main([])
    gpu.main([])


if __name__ == "__main__":
    main()
