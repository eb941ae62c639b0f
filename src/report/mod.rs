//! Tables and pictures from finished products.
