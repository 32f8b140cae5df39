//! Audit files: JSONL, CSV and the specification's layout
