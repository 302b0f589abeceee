"""How well a model predicts hidden tokens, and how well counting alone would."""
