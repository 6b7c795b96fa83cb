"""What students might answer: WRONG, which each check must refuse, and RIGHT."""
