"""What tools/campaign.py does to runs and feeds to commands."""
