"""A packet of rows as bytes: header, sections, codecs, frames."""
