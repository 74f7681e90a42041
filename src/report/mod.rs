//! Runs become tables, charts and pages.
