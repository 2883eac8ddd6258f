"""Draw every figure of a study at the size it is printed, and save it with the numbers behind it."""
