"""What tools/calibrate.py measures: settings of migration and gathering against accuracy."""
