"""The models and cases that tools/check_parity.py compares with reference files."""
