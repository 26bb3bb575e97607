//! Reports: curves, tables and pictures of a run in one HTML file.
