//! A night: folders, exposures, what calibrates what, and what is up to date.
