"""CoNLL-2003, named entities in English news (Tjong Kim Sang and De Meulder 2003): PER, ORG, LOC, MISC."""

from types import MappingProxyType

from cotuning_tune.data.text.column_files import ColumnFiles


class Conll2003(ColumnFiles):
    """Four columns, IOB1; the published validation split is ``testa``, the test split ``testb``."""

    page = "https://www.clips.uantwerpen.be/conll2003/ner/"
    layout = """
    conll2003/ with eng.train, eng.testa, eng.testb (or train.txt, valid.txt, test.txt)
      word part-of-speech chunk tag
    """
    counts = MappingProxyType({"classes": 9, "train": 14041, "val": 3250, "test": 3453})
