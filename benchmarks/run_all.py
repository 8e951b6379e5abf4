"""Every benchmark, one after the other: ``make bench``. Figures go to ``benchmarks/results``."""

import driver
import folder
import loader
import relationship
import service
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


if __name__ == "__main__":
    main()
