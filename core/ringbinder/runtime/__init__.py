"""Small tools that know nothing of binders."""
