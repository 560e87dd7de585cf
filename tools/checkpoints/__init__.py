"""Made-up files in every public checkpoint layout, for the page about them and for tests."""
