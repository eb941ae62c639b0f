//! Arrays and formulas: one file a dispatch, the twin of `shaders/<stem>.wgsl`.
