"""What a bridge does by itself: audits, pings, renewals, repairs, and the end of what is unused."""
