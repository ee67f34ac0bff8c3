"""Words beside images and lines of text: captions, sentences that people wrote, vocabularies."""
