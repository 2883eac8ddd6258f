"""Networks: one encoder-decoder for every row of a study."""
