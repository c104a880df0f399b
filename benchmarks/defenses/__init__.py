"""What defenses are worth, each after an equal search on validation."""
