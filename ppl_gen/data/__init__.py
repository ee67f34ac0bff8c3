"""Data as programs see them: data sets and how they are loaded, pairs of domains, lines of text,
attributes and captions of images.
"""

from ppl_gen.data.attributes import edges, slant, thickness
from ppl_gen.data.changes import (
    SUFFIXES,
    central,
    coloured,
    in_colour,
    inverted,
    parse,
    prepared,
    rotated,
)
from ppl_gen.data.domains import Domains, Unpaired, UnpairedBatches
from ppl_gen.data.formats.columns import Columns
from ppl_gen.data.loading import load, load_domains
from ppl_gen.data.presentation import BINARIZATIONS
from ppl_gen.data.splits import Batches, Dataset, Split, StreamedSplit
from ppl_gen.data.toys import Coverage, modes_covered, ring
from ppl_gen.data.words.captions import Captions, TextEncoder
from ppl_gen.data.words.vocabulary import Vocabulary, tokens_per_line

__all__ = [
    "BINARIZATIONS",
    "SUFFIXES",
    "Batches",
    "Captions",
    "Columns",
    "Coverage",
    "Dataset",
    "Domains",
    "Split",
    "StreamedSplit",
    "TextEncoder",
    "Unpaired",
    "UnpairedBatches",
    "Vocabulary",
    "central",
    "coloured",
    "edges",
    "in_colour",
    "inverted",
    "load",
    "load_domains",
    "modes_covered",
    "parse",
    "prepared",
    "ring",
    "rotated",
    "slant",
    "thickness",
    "tokens_per_line",
]
