"""From raw records to packed batches: store, splits, order, packing."""
