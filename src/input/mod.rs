//! Raw files in: ramps in any of the layouts, and level-1 images.
